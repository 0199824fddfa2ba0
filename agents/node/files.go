package node

import (
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubernetes/pkg/kubelet/envvars"

	"github.com/reprise-run/reprise/agents/node/crispec"
	"github.com/reprise-run/reprise/agents/node/runtime"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// files makes the files that the agent itself mounts into a container: the
// pod's hosts file, and the one that takes the termination message.
func (t *task) files(c *v1.Container) ([]*runtimeapi.Mount, error) {
	dir := t.a.volumes.Directory(t.uid)
	var mounts []*runtimeapi.Mount
	if !mounted(c, "/etc/hosts") {
		path := filepath.Join(dir, "etc-hosts")
		host, _ := os.ReadFile("/etc/hosts") // Only for pods on the host's network; a host may do without.
		if err := replace(path, t.a.node.Hosts(t.pod, podIPs(&t.p, t.a.node), string(host))); err != nil {
			return nil, err
		}
		mounts = append(mounts, &runtimeapi.Mount{ContainerPath: "/etc/hosts", HostPath: path})
	}
	to := c.TerminationMessagePath
	if to == "" {
		to = v1.TerminationMessagePathDefault
	}
	path := messagePath(dir, c.Name, t.Attempt)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o666)
	if err != nil {
		return nil, err
	}
	f.Close()
	if err := os.Chmod(path, 0o666); err != nil { // Whoever the container runs as, and whatever the umask.
		return nil, err
	}
	return append(mounts, &runtimeapi.Mount{ContainerPath: to, HostPath: path}), nil
}

func mounted(c *v1.Container, path string) bool {
	for i := range c.VolumeMounts {
		if c.VolumeMounts[i].MountPath == path {
			return true
		}
	}
	return false
}

// replace writes a file in place, for containers have it mounted, and only if its
// content is another.
func replace(path, content string) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == content {
		return nil
	}
	return os.WriteFile(path, []byte(content), 0o644)
}

// services are the variables that tell a pod where the services are: that of the
// API always, those of its namespace unless it does without.
func services(pod *v1.Pod, view projections.Reader) map[string]string {
	var list []*v1.Service
	add := func(e *projections.Entry) {
		s := projections.As[v1.Service](e)
		if s.Spec.ClusterIP != "" && s.Spec.ClusterIP != v1.ClusterIPNone {
			list = append(list, s)
		}
	}
	if e := view.Get(events.Ref{Resource: "services", Namespace: "default", Name: "kubernetes"}); e != nil {
		add(e)
	}
	if pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks {
		for e := range view.List("", "services", pod.Namespace) {
			if e.Ref.Namespace != "default" || e.Ref.Name != "kubernetes" {
				add(e)
			}
		}
	}
	out := map[string]string{}
	for _, v := range envvars.FromServices(list) {
		out[v.Name] = v.Value
	}
	return out
}

// podLimits are what all containers of a pod may use together. Where one has no
// limit the pod has none.
func podLimits(pod *v1.Pod) runtime.Limits {
	requests := resource.PodRequests(pod, resource.PodResourcesOptions{})
	limits := resource.PodLimits(pod, resource.PodResourcesOptions{})
	cpuLimited, memoryLimited := true, true
	for _, c := range specs(pod) {
		if c.Resources.Limits.Cpu().IsZero() {
			cpuLimited = false
		}
		if c.Resources.Limits.Memory().IsZero() {
			memoryLimited = false
		}
	}
	out := runtime.Limits{CPUShares: uint64(crispec.Shares(requests.Cpu().MilliValue()))}
	if cpuLimited {
		out.CPUQuota, out.CPUPeriod = crispec.Quota(limits.Cpu().MilliValue()), 100_000
	}
	if memoryLimited {
		out.Memory = limits.Memory().Value()
	}
	return out
}
