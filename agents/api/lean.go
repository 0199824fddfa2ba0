package api

import (
	"context"
	"strconv"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	upstreamstorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/registry/core/pod"
)

// A cache holds the fields by which a pod can be selected, in a map for each version.
// Upstream's has ten, of which a selector cannot tell an empty one from one that is not
// there. Maps of up to eight are made of half as many objects, and are half as large: so
// lean ones have no empty fields, and hostNetwork, which is false in nearly all pods, only
// where it is true. See decision 0377.
const hostNetwork = "spec.hostNetwork"

// leanAttributes is upstream's pod.GetAttrs with lean fields.
func leanAttributes(o runtime.Object) (labels.Set, fields.Set, error) {
	p, is := o.(*core.Pod)
	if !is {
		return pod.GetAttrs(o) // which says what is wrong
	}
	set := make(fields.Set, 8)
	put := func(name, value string) {
		if value != "" {
			set[name] = value
		}
	}
	put("metadata.name", p.Name)
	put("metadata.namespace", p.Namespace)
	put("spec.nodeName", p.Spec.NodeName)
	put("spec.restartPolicy", string(p.Spec.RestartPolicy))
	put("spec.schedulerName", p.Spec.SchedulerName)
	put("spec.serviceAccountName", p.Spec.ServiceAccountName)
	put("status.phase", string(p.Status.Phase))
	put("status.nominatedNodeName", p.Status.NominatedNodeName)
	if len(p.Status.PodIPs) > 0 {
		put("status.podIP", p.Status.PodIPs[0].IP)
	}
	if p.Spec.HostNetwork {
		put(hostNetwork, "true")
	}
	return p.Labels, set, nil
}

// leanPods is a storage of pods whose cache has lean fields.
type leanPods struct{ upstreamstorage.Interface }

// Watch implements storage.Interface.
func (s leanPods) Watch(ctx context.Context, key string, o upstreamstorage.ListOptions) (watch.Interface, error) {
	if err := selectLean(&o.Predicate); err != nil {
		return nil, err
	}
	return s.Interface.Watch(ctx, key, o)
}

// GetList implements storage.Interface.
func (s leanPods) GetList(ctx context.Context, key string, o upstreamstorage.ListOptions, list runtime.Object) error {
	if err := selectLean(&o.Predicate); err != nil {
		return err
	}
	return s.Interface.GetList(ctx, key, o, list)
}

// selectLean has p select by lean fields what it selects by upstream's.
func selectLean(p *upstreamstorage.SelectionPredicate) (err error) {
	p.GetAttrs = leanAttributes
	if p.Field != nil {
		p.Field, err = p.Field.Transform(func(field, value string) (string, string, error) {
			switch {
			case field != hostNetwork:
			case value == strconv.FormatBool(false):
				value = ""
			case value == "":
				value = "empty" // which it never is
			}
			return field, value, nil
		})
	}
	return err
}
