package crispec

import (
	"fmt"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubelettypes "k8s.io/kubelet/pkg/types"
)

// Attempt is what an attempt at a container depends on beside its specification.
type Attempt struct {
	Number  uint32
	Backoff time.Duration
	// ImageID is the image to run; ImageUser is whom it runs as.
	ImageID   string
	ImageUser User
	// IPs are the pod's addresses.
	IPs []string
	// Services are the variables that tell where services are.
	Services map[string]string
	// Mounts maps each volume of the pod to its place on the node. Extra are
	// mounts that the agent adds: the hosts file and the termination message.
	Mounts func(m *v1.VolumeMount, expand func(string) string) (*runtimeapi.Mount, error)
	Extra  []*runtimeapi.Mount
	// Seccomp is the directory of the node's own seccomp profiles.
	Seccomp string
	// Target is the container whose processes an ephemeral one shares.
	Target string
	// Hide keeps a text that has got something of a Secret from the runtime, which
	// writes down what it is told: it returns what stands for it. Nil: nothing is
	// hidden.
	Hide func(text string) string
}

// Container returns the configuration of an attempt at a container. Its errors
// are ErrConfig where a change of an object would mend them.
func (n Node) Container(pod *v1.Pod, c *v1.Container, objs Objects, a Attempt) (*runtimeapi.ContainerConfig, error) {
	e := &environment{node: n, pod: pod, c: c, objs: objs, ips: a.IPs, services: a.Services, hide: a.Hide}
	envs, err := e.env()
	if err != nil {
		return nil, err
	}
	security, err := containerSecurity(pod, c, a.ImageUser, a.Seccomp)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if a.Target != "" {
		security.NamespaceOptions.Pid = runtimeapi.NamespaceMode_TARGET
		security.NamespaceOptions.TargetId = a.Target
	}
	config := &runtimeapi.ContainerConfig{
		Metadata:    &runtimeapi.ContainerMetadata{Name: c.Name, Attempt: a.Number},
		Image:       &runtimeapi.ImageSpec{Image: a.ImageID, UserSpecifiedImage: c.Image},
		WorkingDir:  c.WorkingDir,
		Envs:        envs,
		Labels:      podLabels(pod),
		Annotations: annotations(c, a),
		LogPath:     LogPath(c.Name, a.Number),
		Stdin:       c.Stdin,
		StdinOnce:   c.StdinOnce,
		Tty:         c.TTY,
		Linux:       &runtimeapi.LinuxContainerConfig{Resources: n.resources(pod, c), SecurityContext: security},
	}
	config.Labels[kubelettypes.KubernetesContainerNameLabel] = c.Name
	for _, s := range c.Command {
		config.Command = append(config.Command, e.hidden(e.expanded(s)))
	}
	for _, s := range c.Args {
		config.Args = append(config.Args, e.hidden(e.expanded(s)))
	}
	for i := range c.VolumeMounts {
		m, err := a.Mounts(&c.VolumeMounts[i], e.expand)
		if err != nil {
			return nil, fmt.Errorf("%w: mount %s: %w", ErrConfig, c.VolumeMounts[i].MountPath, err)
		}
		config.Mounts = append(config.Mounts, m)
	}
	config.Mounts = append(config.Mounts, a.Extra...)
	return config, nil
}

func annotations(c *v1.Container, a Attempt) map[string]string {
	path := c.TerminationMessagePath
	if path == "" {
		path = v1.TerminationMessagePathDefault
	}
	return map[string]string{
		BackoffAnnotation:       strconv.FormatInt(int64(a.Backoff/time.Second), 10),
		ImageAnnotation:         c.Image,
		MessagePathAnnotation:   path,
		MessagePolicyAnnotation: string(c.TerminationMessagePolicy),
	}
}
