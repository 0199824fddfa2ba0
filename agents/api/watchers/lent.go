package watchers

import (
	"reflect"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubernetes/pkg/apis/core"
)

// lender makes objects for many watchers of those that upstream makes, which copies all of
// an object whenever it encodes it: what encodes might write into it. It writes the kind
// into what the object is itself, and into quantities how they read. So of a pod, of which
// there are many and which is large, what it is itself alone is copied, unless it has
// quantities in memory of their own (TestEncodingChangesNothing).
type lender struct {
	mu     sync.Mutex
	recent [64]lent // the last ones, for those who watch the same in another way
	next   int
}

// lent is a pod for many watchers, and what upstream made of it.
type lent struct {
	made   runtime.Object
	common *common
}

// lend returns what to tell watchers in place of an object: itself, if it is no pod or
// none for many.
func (l *lender) lend(o runtime.Object) runtime.Object {
	if _, many := o.(runtime.CacheableObject); !many {
		return o
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.recent {
		if l.recent[i].made == o {
			return l.recent[i].common
		}
	}
	pod := podIn(o)
	if pod == nil {
		return o
	}
	c := newCommon(pod).(*common)
	if !hasQuantities(pod) {
		c.borrow = func() runtime.Object {
			own := *pod
			return &own
		}
	}
	l.recent[l.next] = lent{o, c}
	l.next = (l.next + 1) % len(l.recent)
	return c
}

// podIn is the pod in an object that upstream made for many, nil if it is no pod. Upstream
// changes none after it has told of it, but does not show it either: that it is found
// rests on the name of one field.
func podIn(o runtime.Object) *core.Pod {
	v := reflect.ValueOf(o)
	if v.Kind() != reflect.Pointer || v.Type().Elem().Kind() != reflect.Struct {
		return nil
	}
	field := v.Elem().FieldByName("object")
	if !field.IsValid() || field.Kind() != reflect.Interface || field.Elem().Type() != reflect.TypeFor[*core.Pod]() {
		return nil
	}
	return (*core.Pod)(field.Elem().UnsafePointer())
}

// hasQuantities says whether a pod has quantities elsewhere than in maps, from which they
// are copied.
func hasQuantities(pod *core.Pod) bool {
	file := func(f core.DownwardAPIVolumeFile) bool { return f.ResourceFieldRef != nil }
	for i := range pod.Spec.Volumes {
		switch v := &pod.Spec.Volumes[i]; {
		case v.EmptyDir != nil && v.EmptyDir.SizeLimit != nil:
			return true
		case v.DownwardAPI != nil && slices.ContainsFunc(v.DownwardAPI.Items, file):
			return true
		case v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s core.VolumeProjection) bool {
			return s.DownwardAPI != nil && slices.ContainsFunc(s.DownwardAPI.Items, file)
		}):
			return true
		}
	}
	env := func(e core.EnvVar) bool { return e.ValueFrom != nil && e.ValueFrom.ResourceFieldRef != nil }
	for i := range pod.Spec.EphemeralContainers {
		if slices.ContainsFunc(pod.Spec.EphemeralContainers[i].Env, env) {
			return true
		}
	}
	for _, containers := range [...][]core.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			if slices.ContainsFunc(containers[i].Env, env) {
				return true
			}
		}
	}
	return false
}
