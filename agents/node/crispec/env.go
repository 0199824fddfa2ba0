package crispec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	podresource "k8s.io/kubernetes/pkg/api/v1/resource"
	"k8s.io/kubernetes/pkg/fieldpath"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// environment collects a container's variables: of services, then of envFrom,
// then its own, of which each may speak of those before it.
type environment struct {
	node Node
	pod  *v1.Pod
	c    *v1.Container
	objs Objects
	ips  []string

	// services are the variables that tell where the services are; they do not
	// count against what the container sets itself.
	services map[string]string
	values   map[string]string
	order    []string
	// fromSecret are the variables whose values come from Secrets.
	fromSecret map[string]bool
	// hide returns what stands for a value that comes from a Secret.
	hide func(string) string
}

// env returns the variables of a container, and their values for $(NAME).
func (e *environment) env() ([]*runtimeapi.KeyValue, error) {
	e.values, e.fromSecret = map[string]string{}, map[string]bool{}
	for i := range e.c.EnvFrom {
		if err := e.from(&e.c.EnvFrom[i]); err != nil {
			return nil, err
		}
	}
	for i := range e.c.Env {
		if err := e.one(&e.c.Env[i]); err != nil {
			return nil, err
		}
	}
	for _, k := range slices.Sorted(maps.Keys(e.services)) {
		if _, own := e.values[k]; !own {
			e.set(k, e.services[k], false)
		}
	}
	var out []*runtimeapi.KeyValue
	for _, k := range e.order {
		out = append(out, &runtimeapi.KeyValue{Key: k, Value: []byte(e.hidden(e.values[k], e.fromSecret[k]))})
	}
	return out, nil
}

func (e *environment) set(name, value string, secret bool) {
	if _, known := e.values[name]; !known {
		e.order = append(e.order, name)
	}
	e.values[name], e.fromSecret[name] = value, secret
}

// expand replaces $(NAME) by what is known of NAME.
func (e *environment) expand(s string) string {
	text, _ := e.expanded(s)
	return text
}

// expanded is expand, and says whether the text has got something of a Secret.
func (e *environment) expanded(s string) (text string, secret bool) {
	lookup := expansion.MappingFuncFor(e.values, e.services)
	text = expansion.Expand(s, func(name string) string {
		secret = secret || e.fromSecret[name]
		return lookup(name)
	})
	return text, secret
}

// hidden is what the runtime is told in place of a text that may have got
// something of a Secret.
func (e *environment) hidden(text string, secret bool) string {
	if !secret || e.hide == nil || text == "" {
		return text
	}
	return e.hide(text)
}

func (e *environment) from(src *v1.EnvFromSource) error {
	data := map[string]string{}
	secret := src.SecretRef != nil
	switch {
	case src.ConfigMapRef != nil:
		cm, err := e.configMap(src.ConfigMapRef.Name, is(src.ConfigMapRef.Optional))
		if err != nil {
			return fmt.Errorf("%w: envFrom: %w", ErrConfig, err)
		}
		if cm != nil {
			data = cm.Data
		}
	case src.SecretRef != nil:
		s, err := e.secret(src.SecretRef.Name, is(src.SecretRef.Optional))
		if err != nil {
			return fmt.Errorf("%w: envFrom: %w", ErrConfig, err)
		}
		if s != nil {
			for k, v := range s.Data {
				data[k] = string(v)
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(data)) {
		name := src.Prefix + k
		if len(utilvalidation.IsRelaxedEnvVarName(name)) > 0 {
			continue // As upstream does: such a key is no variable.
		}
		e.set(name, data[k], secret)
	}
	return nil
}

func (e *environment) one(v *v1.EnvVar) error {
	if v.ValueFrom == nil {
		text, secret := e.expanded(v.Value)
		e.set(v.Name, text, secret)
		return nil
	}
	value, found, err := e.value(v.ValueFrom)
	if err != nil {
		return fmt.Errorf("%w: variable %s: %w", ErrConfig, v.Name, err)
	}
	if found {
		e.set(v.Name, value, v.ValueFrom.SecretKeyRef != nil)
	}
	return nil
}

func (e *environment) value(src *v1.EnvVarSource) (value string, found bool, err error) {
	switch {
	case src.FieldRef != nil:
		value, err = e.field(src.FieldRef.FieldPath)
		return value, true, err
	case src.ResourceFieldRef != nil:
		value, err = Resource(src.ResourceFieldRef, e.pod, e.c, e.node.Allocatable)
		return value, true, err
	case src.ConfigMapKeyRef != nil:
		ref := src.ConfigMapKeyRef
		cm, err := e.configMap(ref.Name, is(ref.Optional))
		if cm == nil {
			return "", false, err
		}
		if value, found = cm.Data[ref.Key]; !found && !is(ref.Optional) {
			return "", false, fmt.Errorf("configmap %q has no key %q", e.pod.Namespace+"/"+ref.Name, ref.Key)
		}
		return value, found, nil
	case src.SecretKeyRef != nil:
		ref := src.SecretKeyRef
		s, err := e.secret(ref.Name, is(ref.Optional))
		if s == nil {
			return "", false, err
		}
		raw, found := s.Data[ref.Key]
		if !found && !is(ref.Optional) {
			return "", false, fmt.Errorf("secret %q has no key %q", e.pod.Namespace+"/"+ref.Name, ref.Key)
		}
		return string(raw), found, nil
	}
	return "", false, nil
}

// field is a field of the pod as a variable.
func (e *environment) field(path string) (string, error) {
	switch path {
	case "spec.nodeName":
		return e.pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return e.pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(e.node.HostIPs), nil
	case "status.hostIPs":
		return strings.Join(e.node.HostIPs, ","), nil
	case "status.podIP":
		return first(e.ips), nil
	case "status.podIPs":
		return strings.Join(e.ips, ","), nil
	}
	return fieldpath.ExtractFieldPathAsString(e.pod, path)
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// Resource is a request or limit of a container as a variable or file. A limit
// that the container does not have is what the node can allocate.
func Resource(ref *v1.ResourceFieldSelector, pod *v1.Pod, c *v1.Container, allocatable v1.ResourceList) (string, error) {
	if ref.ContainerName != "" && (c == nil || ref.ContainerName != c.Name) {
		return podresource.ExtractResourceValueByContainerNameAndNodeAllocatable(ref, pod, ref.ContainerName, allocatable)
	}
	c = c.DeepCopy()
	podresource.MergeContainerResourceLimits(c, allocatable)
	return podresource.ExtractContainerResourceValue(ref, c)
}

func (e *environment) configMap(name string, optional bool) (*v1.ConfigMap, error) {
	ref := events.Ref{Resource: "configmaps", Namespace: e.pod.Namespace, Name: name}
	if entry := e.objs.Get(ref); entry != nil {
		return projections.As[v1.ConfigMap](entry), nil
	}
	if optional {
		return nil, nil
	}
	return nil, fmt.Errorf("configmap %q not found", e.pod.Namespace+"/"+name)
}

func (e *environment) secret(name string, optional bool) (*v1.Secret, error) {
	ref := events.Ref{Resource: "secrets", Namespace: e.pod.Namespace, Name: name}
	if entry := e.objs.Get(ref); entry != nil {
		return projections.As[v1.Secret](entry), nil
	}
	if optional {
		return nil, nil
	}
	return nil, fmt.Errorf("secret %q not found", e.pod.Namespace+"/"+name)
}
