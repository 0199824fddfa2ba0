package projections

import (
	"errors"
	"hash/maphash"
	"reflect"
	"sync/atomic"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The pods of one template are alike in most of their parts: labels, owners, tolerations,
// what a container asks for. A part that was decoded lately from the same bytes is not
// decoded again but shared by all of these objects, of which nobody may change anything.
// See decision 0305.

// maxAlike bounds how many parts of one type are remembered, and partSize what is
// taken for a part.
const (
	maxAlike = 1 << 11
	partSize = 4 << 10
)

// alike remembers parts of the type T by their canonical JSON. Where two want the same
// place the later one has it. So what is in it depends on chance, but only memory
// depends on that.
type alike[T any] struct {
	places [maxAlike]atomic.Pointer[part[T]]
	inside json.Options // for decoding a part, whose own parts are shared too
}

type part[T any] struct {
	raw   string
	value T
}

var placing = maphash.MakeSeed()

// read decodes the next value, or takes one that is remembered.
func (a *alike[T]) read(d *jsontext.Decoder, into *T) error {
	if kind := d.PeekKind(); kind != '{' && kind != '[' {
		return errors.ErrUnsupported
	}
	raw, err := d.ReadValue()
	if err != nil {
		return err
	}
	if len(raw) > partSize {
		return json.Unmarshal(raw, into, a.inside)
	}
	place := &a.places[maphash.Bytes(placing, raw)%maxAlike]
	if p := place.Load(); p != nil && p.raw == string(raw) {
		*into = p.value
		return nil
	}
	var value T
	if err := json.Unmarshal(raw, &value, a.inside); err != nil {
		return err
	}
	clip(reflect.ValueOf(&value).Elem())
	place.Store(&part[T]{string(raw), value})
	*into = value
	return nil
}

// clip leaves no room behind the elements of the lists in a value: what is appended to
// one of them, by whoever copied it, must not come to lie where others append too. Parts
// of it may be shared already, and read just now: they have no room, and are not written to.
func clip(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			clip(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				clip(f)
			}
		}
	case reflect.Slice:
		if v.Cap() > v.Len() {
			v.SetCap(v.Len())
		}
		if k := v.Type().Elem().Kind(); k == reflect.Struct || k == reflect.Pointer || k == reflect.Slice {
			for i := range v.Len() {
				clip(v.Index(i))
			}
		}
	}
}

// how are the options with which an object is decoded. Parts are shared by what there
// are many of, made from templates. Not by ConfigMaps and Secrets, whose values must not
// be remembered when their objects are gone.
func (e *Entry) how() json.Options {
	switch e.Ref.Resource {
	case "pods", "nodes", "replicasets", "deployments":
		return sharing
	}
	return stored
}

// sharing are the options that decode a stored object and share its parts.
var sharing = func() json.Options {
	kinds := []kind{
		of[map[string]string](),
		of[core.ResourceList](),
		of[[]metav1.OwnerReference](),
		of[[]metav1.ManagedFieldsEntry](),
		of[*metav1.FieldsV1](),
		of[[]core.Container](),
		of[[]core.Volume](),
		of[[]core.Toleration](),
		of[[]core.EnvVar](),
		of[[]core.ContainerPort](),
		of[*core.Affinity](),
		of[[]core.TopologySpreadConstraint](),
		of[*core.ProjectedVolumeSource](),
		of[*core.ConfigMapVolumeSource](),
		of[*core.SecretVolumeSource](),
		of[*core.SecurityContext](),
		of[*core.PodSecurityContext](),
		of[*core.Probe](),
		of[[]core.PodCondition](),
		of[[]core.ContainerImage](),
	}
	// A part is decoded by all of them but itself.
	for i, k := range kinds {
		var others []*json.Unmarshalers
		for j, other := range kinds {
			if j != i {
				others = append(others, other.read)
			}
		}
		k.within(json.JoinOptions(stored, json.WithUnmarshalers(json.JoinUnmarshalers(others...))))
	}
	var all []*json.Unmarshalers
	for _, k := range kinds {
		all = append(all, k.read)
	}
	return json.JoinOptions(stored, json.WithUnmarshalers(json.JoinUnmarshalers(all...)))
}()

// kind is an alike of some type.
type kind struct {
	read   *json.Unmarshalers
	within func(json.Options)
}

func of[T any]() kind {
	a := new(alike[T])
	return kind{json.UnmarshalFromFunc(a.read), func(o json.Options) { a.inside = o }}
}
