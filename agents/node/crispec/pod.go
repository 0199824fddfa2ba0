// Package crispec says in the terms of the container runtime interface what a
// pod of the Kubernetes API asks for: the configuration of its sandbox and of
// each of its containers, with the environment from ConfigMaps, Secrets and the
// pod itself. The node agent calls it right before it creates them.
//
// It computes and does nothing else: it neither calls the runtime nor touches a
// file; what it needs of the node's own files it is given.
package crispec

import (
	"path/filepath"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubelettypes "k8s.io/kubelet/pkg/types"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Objects finds the ConfigMaps, Secrets and Services that a pod speaks of.
type Objects interface {
	Get(ref events.Ref) *projections.Entry
}

// Node is what a pod's configuration depends on of its node.
type Node struct {
	Name string
	// HostIPs are the node's addresses.
	HostIPs []string
	// Memory is the node's memory in bytes, for OOM scores.
	Memory int64
	// Allocatable stands in for limits that a container asks for but has not.
	Allocatable v1.ResourceList
	// Logs is the directory of the pods' logs.
	Logs string
	// DNS are the addresses of the cluster's DNS and Domain the cluster's
	// domain. Without DNS pods use the node's.
	DNS    []string
	Domain string
	// Resolv is the content of the node's resolv.conf.
	Resolv string
	// Hides says that the node's shim knows what stands for a hidden text.
	Hides bool
}

// Labels and annotations beside those of the kubelet.
const (
	// BackoffAnnotation keeps plan.Container.Backoff with the runtime.
	BackoffAnnotation = "reprise.run/backoff"
	// ImageAnnotation keeps the image as the pod names it.
	ImageAnnotation = "reprise.run/image"
	// HidesAnnotation marks a sandbox whose shim knows what stands for a text that
	// was hidden (Attempt.Hide). One that was made before an upgrade may not.
	HidesAnnotation = "reprise.run/hides"
	// MessagePathAnnotation and MessagePolicyAnnotation say where and how a
	// container leaves its termination message, for when the pod is gone.
	MessagePathAnnotation   = "io.kubernetes.container.terminationMessagePath"
	MessagePolicyAnnotation = "io.kubernetes.container.terminationMessagePolicy"
)

// podLabels are the labels of all that belongs to a pod at the runtime, by which
// it is found again.
func podLabels(pod *v1.Pod) map[string]string {
	return map[string]string{
		kubelettypes.KubernetesPodNameLabel:      pod.Name,
		kubelettypes.KubernetesPodNamespaceLabel: pod.Namespace,
		kubelettypes.KubernetesPodUIDLabel:       string(pod.UID),
	}
}

// LogDirectory is where the logs of a pod's containers are, below logs.
func LogDirectory(logs, namespace, name string, uid types.UID) string {
	return filepath.Join(logs, namespace+"_"+name+"_"+string(uid))
}

// LogPath is where the log of an attempt at a container is, below the pod's
// directory.
func LogPath(container string, attempt uint32) string {
	return filepath.Join(container, strconv.FormatUint(uint64(attempt), 10)+".log")
}

// Sandbox returns the configuration of an attempt at a pod's sandbox within the
// cgroup parent.
func (n Node) Sandbox(pod *v1.Pod, attempt uint32, cgroupParent string) *runtimeapi.PodSandboxConfig {
	config := &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{
			Name: pod.Name, Namespace: pod.Namespace, Uid: string(pod.UID), Attempt: attempt,
		},
		LogDirectory: LogDirectory(n.Logs, pod.Namespace, pod.Name, pod.UID),
		DnsConfig:    n.dns(pod),
		PortMappings: ports(pod),
		Labels:       podLabels(pod),
		Annotations:  map[string]string{},
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent:    cgroupParent,
			SecurityContext: sandboxSecurity(pod),
			Sysctls:         sysctls(pod),
		},
	}
	for k, v := range pod.Labels {
		if _, taken := config.Labels[k]; !taken {
			config.Labels[k] = v
		}
	}
	for k, v := range pod.Annotations {
		config.Annotations[k] = v
	}
	delete(config.Annotations, HidesAnnotation)
	if n.Hides {
		config.Annotations[HidesAnnotation] = "true"
	}
	if !pod.Spec.HostNetwork {
		config.Hostname = Hostname(pod)
		if full := n.fullName(pod); full != "" && pod.Spec.SetHostnameAsFQDN != nil && *pod.Spec.SetHostnameAsFQDN {
			config.Hostname = full
		}
	}
	return config
}

// maxHostname is what Linux allows.
const maxHostname = 63

// Hostname is the pod's own name for itself.
func Hostname(pod *v1.Pod) string {
	name := pod.Name
	if pod.Spec.HostnameOverride != nil {
		return *pod.Spec.HostnameOverride
	}
	if pod.Spec.Hostname != "" {
		name = pod.Spec.Hostname
	}
	if len(name) > maxHostname {
		name = strings.TrimRight(name[:maxHostname], "-.")
	}
	return name
}

// fullName is the pod's name in the cluster's DNS, empty if it has none.
func (n Node) fullName(pod *v1.Pod) string {
	if pod.Spec.Subdomain == "" || n.Domain == "" {
		return ""
	}
	return Hostname(pod) + "." + pod.Spec.Subdomain + "." + pod.Namespace + ".svc." + n.Domain
}

// ports returns the ports of the node that lead into the pod.
func ports(pod *v1.Pod) []*runtimeapi.PortMapping {
	if pod.Spec.HostNetwork {
		return nil
	}
	var out []*runtimeapi.PortMapping
	for _, containers := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			for _, p := range containers[i].Ports {
				if p.HostPort == 0 {
					continue
				}
				m := &runtimeapi.PortMapping{ContainerPort: p.ContainerPort, HostPort: p.HostPort, HostIp: p.HostIP}
				switch p.Protocol {
				case v1.ProtocolUDP:
					m.Protocol = runtimeapi.Protocol_UDP
				case v1.ProtocolSCTP:
					m.Protocol = runtimeapi.Protocol_SCTP
				}
				out = append(out, m)
			}
		}
	}
	return out
}

func sysctls(pod *v1.Pod) map[string]string {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	out := map[string]string{}
	for _, s := range pod.Spec.SecurityContext.Sysctls {
		out[s.Name] = s.Value
	}
	return out
}
