package crispec

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubernetes/pkg/securitycontext"
)

// namespaces returns which namespaces are the pod's, the host's or a container's
// own.
func namespaces(pod *v1.Pod) *runtimeapi.NamespaceOption {
	ns := &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}
	if pod.Spec.HostNetwork {
		ns.Network = runtimeapi.NamespaceMode_NODE
	}
	if pod.Spec.HostIPC {
		ns.Ipc = runtimeapi.NamespaceMode_NODE
	}
	switch {
	case pod.Spec.HostPID:
		ns.Pid = runtimeapi.NamespaceMode_NODE
	case pod.Spec.ShareProcessNamespace != nil && *pod.Spec.ShareProcessNamespace:
		ns.Pid = runtimeapi.NamespaceMode_POD
	}
	return ns
}

func sandboxSecurity(pod *v1.Pod) *runtimeapi.LinuxSandboxSecurityContext {
	out := &runtimeapi.LinuxSandboxSecurityContext{
		NamespaceOptions: namespaces(pod),
		Seccomp:          &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
	}
	for _, containers := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			if sc := containers[i].SecurityContext; sc != nil && sc.Privileged != nil && *sc.Privileged {
				out.Privileged = true
			}
		}
	}
	sc := pod.Spec.SecurityContext
	if sc == nil {
		return out
	}
	if sc.RunAsUser != nil && sc.RunAsGroup != nil {
		out.RunAsUser = &runtimeapi.Int64Value{Value: *sc.RunAsUser}
		out.RunAsGroup = &runtimeapi.Int64Value{Value: *sc.RunAsGroup}
	}
	out.SupplementalGroups = groups(sc)
	out.SupplementalGroupsPolicy = groupsPolicy(sc)
	return out
}

func groups(sc *v1.PodSecurityContext) []int64 {
	out := slices.Clone(sc.SupplementalGroups)
	if sc.FSGroup != nil {
		out = append(out, *sc.FSGroup)
	}
	return out
}

func groupsPolicy(sc *v1.PodSecurityContext) runtimeapi.SupplementalGroupsPolicy {
	if sc.SupplementalGroupsPolicy != nil && *sc.SupplementalGroupsPolicy == v1.SupplementalGroupsPolicyStrict {
		return runtimeapi.SupplementalGroupsPolicy_Strict
	}
	return runtimeapi.SupplementalGroupsPolicy_Merge
}

// User is whom an image says that its process runs as.
type User struct {
	UID  *int64
	Name string
}

// containerSecurity returns how a container is confined. seccomp is the
// directory of the node's own profiles.
func containerSecurity(pod *v1.Pod, c *v1.Container, image User, seccomp string) (*runtimeapi.LinuxContainerSecurityContext, error) {
	sc := securitycontext.DetermineEffectiveSecurityContext(pod, c)
	out := &runtimeapi.LinuxContainerSecurityContext{
		NamespaceOptions: namespaces(pod),
		Privileged:       is(sc.Privileged),
		ReadonlyRootfs:   is(sc.ReadOnlyRootFilesystem),
		NoNewPrivs:       securitycontext.AddNoNewPrivileges(sc),
		MaskedPaths:      securitycontext.ConvertToRuntimeMaskedPaths(sc.ProcMount),
		ReadonlyPaths:    securitycontext.ConvertToRuntimeReadonlyPaths(sc.ProcMount),
	}
	if err := user(out, sc, c.Name, image); err != nil {
		return nil, err
	}
	if psc := pod.Spec.SecurityContext; psc != nil {
		out.SupplementalGroups = groups(psc)
		out.SupplementalGroupsPolicy = groupsPolicy(psc)
	}
	if sc.Capabilities != nil {
		out.Capabilities = &runtimeapi.Capability{}
		for _, c := range sc.Capabilities.Add {
			out.Capabilities.AddCapabilities = append(out.Capabilities.AddCapabilities, string(c))
		}
		for _, c := range sc.Capabilities.Drop {
			out.Capabilities.DropCapabilities = append(out.Capabilities.DropCapabilities, string(c))
		}
	}
	if o := sc.SELinuxOptions; o != nil {
		out.SelinuxOptions = &runtimeapi.SELinuxOption{User: o.User, Role: o.Role, Type: o.Type, Level: o.Level}
	}
	if !out.Privileged {
		out.Seccomp = profile(seccompProfile(pod, c), seccomp)
	}
	return out, nil
}

// seccompProfile is the container's own profile or else the pod's; the effective
// security context has neither.
func seccompProfile(pod *v1.Pod, c *v1.Container) *v1.SeccompProfile {
	if c.SecurityContext != nil && c.SecurityContext.SeccompProfile != nil {
		return c.SecurityContext.SeccompProfile
	}
	if pod.Spec.SecurityContext != nil {
		return pod.Spec.SecurityContext.SeccompProfile
	}
	return nil
}

// user fills in whom the process runs as, and refuses root where it is not
// allowed.
func user(out *runtimeapi.LinuxContainerSecurityContext, sc *v1.SecurityContext, container string, image User) error {
	if sc.RunAsGroup != nil {
		out.RunAsGroup = &runtimeapi.Int64Value{Value: *sc.RunAsGroup}
	}
	switch {
	case sc.RunAsUser != nil:
		out.RunAsUser = &runtimeapi.Int64Value{Value: *sc.RunAsUser}
	case image.UID != nil:
		out.RunAsUser = &runtimeapi.Int64Value{Value: *image.UID}
	default:
		out.RunAsUsername = image.Name
	}
	if !is(sc.RunAsNonRoot) {
		return nil
	}
	switch {
	case sc.RunAsUser != nil && *sc.RunAsUser == 0:
		return fmt.Errorf("container %q has runAsNonRoot and runAsUser 0: set another runAsUser", container)
	case sc.RunAsUser != nil:
	case image.UID != nil && *image.UID == 0, image.UID == nil && image.Name == "":
		return fmt.Errorf("container %q has runAsNonRoot and its image runs as root: set runAsUser", container)
	case image.UID == nil:
		return fmt.Errorf("container %q has runAsNonRoot and its image has the user %q, which is not a number: set runAsUser", container, image.Name)
	}
	return nil
}

func profile(p *v1.SeccompProfile, dir string) *runtimeapi.SecurityProfile {
	out := &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
	if p == nil {
		return out
	}
	switch p.Type {
	case v1.SeccompProfileTypeRuntimeDefault:
		out.ProfileType = runtimeapi.SecurityProfile_RuntimeDefault
	case v1.SeccompProfileTypeLocalhost:
		out.ProfileType = runtimeapi.SecurityProfile_Localhost
		if p.LocalhostProfile != nil {
			out.LocalhostRef = filepath.Join(dir, *p.LocalhostProfile)
		}
	}
	return out
}

func is(b *bool) bool { return b != nil && *b }

// ErrConfig marks what keeps a container from being created until somebody
// changes an object: a ConfigMap or key that is not there, or a user that it may
// not have.
var ErrConfig = errors.New("the container cannot be configured")
