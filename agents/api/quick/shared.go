package quick

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"

	core "k8s.io/api/core/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	internal "k8s.io/kubernetes/pkg/apis/core"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"

	"github.com/reprise-run/reprise/projections"
)

// Shared makes what upstream holds in memory of an object from what the projection has
// decoded, with which it shares its memory. It implements storage.Decoder.
type Shared struct {
	kind   schema.GroupVersionKind // in which it is stored
	stored reflect.Type            // the Go type of that
	blank  reflect.Type            // what upstream holds
	codec  apiruntime.Codec
	above  value.Transformer

	mu    sync.Mutex
	whole map[string]whole         // of the pods in which nothing is left to be filled in, by uid
	alike map[string]*core.PodSpec // that of the last of these, by what names are made of
}

// whole is the spec of the newest version of a pod in which nothing was left to be filled
// in. It belongs to what the projection has decoded of that.
type whole struct {
	spec     *core.PodSpec
	sequence uint64
}

// maxAlike is how many specs are kept to compare others with.
const maxAlike = 512

// NewShared returns a decoder for what is stored as c says, of which example is what
// upstream holds. It fails if there is nothing to be shared.
func NewShared(c *storagebackend.ConfigForResource, example apiruntime.Object) (*Shared, error) {
	kinds, _, err := legacyscheme.Scheme.ObjectKinds(example)
	if err != nil {
		return nil, err
	}
	kind, ok := c.EncodeVersioner.KindForGroupVersionKinds(kinds)
	if !ok {
		return nil, fmt.Errorf("upstream does not say in which version it stores a %s", kinds[0])
	}
	stored, err := legacyscheme.Scheme.New(kind)
	if err != nil {
		return nil, err
	}
	s := &Shared{
		kind: kind, stored: reflect.TypeOf(stored).Elem(), blank: reflect.TypeOf(example).Elem(),
		codec: c.Codec, above: c.Transformer, whole: map[string]whole{}, alike: map[string]*core.PodSpec{},
	}
	if s.stored == s.blank {
		return nil, fmt.Errorf("upstream holds a %s as it is stored, and might change it", kind)
	}
	return s, nil
}

// Share implements storage.Decoder.
func (s *Shared) Share(e *projections.Entry) (apiruntime.Object, error) {
	decoded, err := e.Typed(s.stored)
	if err != nil {
		return apiruntime.Decode(s.codec, e.Raw) // which says what is wrong with it
	}
	object := decoded.(apiruntime.Object)
	if object.GetObjectKind().GroupVersionKind() != s.kind {
		return apiruntime.Decode(s.codec, e.Raw) // from a version in which it was stored once
	}
	return s.convert(s.fill(e, object))
}

// convert returns an object as upstream holds it. For pods, of which there are most, it
// looks for no function that does so.
func (s *Shared) convert(object apiruntime.Object) (apiruntime.Object, error) {
	if pod, is := object.(*core.Pod); is {
		into := new(internal.Pod)
		return into, corev1.Convert_v1_Pod_To_core_Pod(pod, into, nil)
	}
	into := reflect.New(s.blank).Interface().(apiruntime.Object)
	return into, legacyscheme.Scheme.Convert(object, into, nil)
}

// fill returns an object with upstream's defaults: mostly as it is, for they were
// filled in before it was stored, and else a copy that has those that this version of
// upstream knows besides.
func (s *Shared) fill(e *projections.Entry, object apiruntime.Object) apiruntime.Object {
	pod, isPod := object.(*core.Pod)
	if isPod && agree(&pod.Status) {
		version, like := s.known(e, pod)
		if version != nil && sameSpec(&pod.Spec, version) || like != nil && sameSpec(&pod.Spec, like) {
			s.remember(e, pod)
			return object
		}
	}
	filled, changed := fillIn(object)
	switch {
	case changed:
		s.Forget(e)
	case isPod:
		s.remember(e, pod)
	}
	return filled
}

// known are specs in which nothing is left to be filled in, of another version of a pod
// and of a pod whose name was made like this one's; nil if none is known.
func (s *Shared) known(e *projections.Entry, pod *core.Pod) (version, like *core.PodSpec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.whole[e.UID].spec, s.alike[pod.GenerateName]
}

// remember notes that nothing is left to be filled in.
func (s *Shared) remember(e *projections.Entry, pod *core.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Sequence >= s.whole[e.UID].sequence {
		s.whole[e.UID] = whole{&pod.Spec, e.Sequence}
	}
	if len(s.alike) >= maxAlike {
		clear(s.alike)
	}
	if pod.GenerateName != "" {
		s.alike[pod.GenerateName] = &pod.Spec
	}
}

// fillIn returns an object with upstream's defaults. Unless they change something it
// is the object itself.
func fillIn(object apiruntime.Object) (filled apiruntime.Object, changed bool) {
	pod, isPod := object.(*core.Pod)
	if !isPod {
		filled = object.DeepCopyObject()
		legacyscheme.Scheme.Default(filled)
		if reflect.DeepEqual(filled, object) {
			return object, false
		}
		return filled, true
	}
	// Of a pod nothing but the spec and the addresses is filled in.
	next := *pod
	pod.Spec.DeepCopyInto(&next.Spec)
	agrees := agree(&pod.Status)
	if !agrees {
		pod.Status.DeepCopyInto(&next.Status) // Resources are rounded where they are.
	}
	legacyscheme.Scheme.Default(&next)
	if agrees && Equal(&next.Spec, &pod.Spec) {
		return object, false
	}
	return &next, true
}

// sameSpec says whether two specs are the same but for the node, by which upstream
// fills in nothing.
func sameSpec(a, b *core.PodSpec) bool {
	if a == b {
		return true
	}
	if a.NodeName != b.NodeName {
		bound := *b
		bound.NodeName = a.NodeName
		b = &bound
	}
	return Equal(a, b)
}

// agree says whether upstream would fill in nothing in a status: its addresses are as
// upstream has them, and it tells of no resources, which upstream rounds.
func agree(s *core.PodStatus) bool {
	told := func(c core.ContainerStatus) bool { return c.Resources != nil || c.AllocatedResources != nil }
	for _, containers := range [][]core.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		if slices.ContainsFunc(containers, told) {
			return false
		}
	}
	if s.Resources != nil || s.AllocatedResources != nil {
		return false
	}
	if len(s.PodIPs) == 0 {
		return s.PodIP == ""
	}
	return s.PodIP == s.PodIPs[0].IP
}

// Decode implements storage.Decoder.
func (s *Shared) Decode(ctx context.Context, key string, stored []byte) (apiruntime.Object, error) {
	if s.above != nil {
		var err error
		if stored, _, err = s.above.TransformFromStorage(ctx, stored, value.DefaultContext(key)); err != nil {
			return nil, err
		}
	}
	return apiruntime.Decode(s.codec, stored)
}

// Forget implements storage.Decoder.
func (s *Shared) Forget(e *projections.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.whole, e.UID)
}
