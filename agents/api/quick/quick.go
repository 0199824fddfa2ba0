// Package quick reads the objects that upstream stores as JSON, with a reader that is
// some times as fast as upstream's. What upstream makes of an object when it has read
// it (defaults, conversion) is made by upstream here too, and what cannot be read so
// is left to upstream, errors included.
//
// agents/api and agents/api/past call it. It writes nothing.
package quick

import (
	"fmt"
	"reflect"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/kubernetes/pkg/api/legacyscheme"

	"github.com/reprise-run/reprise/projections/parse"
)

// Getter is upstream's options of storage, in which codecs read quickly.
type Getter struct{ generic.RESTOptionsGetter }

// GetRESTOptions implements generic.RESTOptionsGetter.
func (g Getter) GetRESTOptions(resource schema.GroupResource, example apiruntime.Object) (generic.RESTOptions, error) {
	o, err := g.RESTOptionsGetter.GetRESTOptions(resource, example)
	if err != nil || example == nil {
		return o, err
	}
	quick, err := NewDecoder(o.StorageConfig.EncodeVersioner, example)
	if err != nil {
		return o, nil // Nothing of its kind is in upstream's scheme: upstream decodes it.
	}
	o.StorageConfig.Codec = &codec{Codec: o.StorageConfig.Codec, quick: quick, blank: reflect.TypeOf(example)}
	return o, nil
}

// codec is upstream's codec of a resource, which tries the quick reader first.
type codec struct {
	apiruntime.Codec
	quick apiruntime.Decoder
	blank reflect.Type
}

// Decode implements runtime.Decoder.
func (c *codec) Decode(data []byte, defaults *schema.GroupVersionKind, into apiruntime.Object) (apiruntime.Object, *schema.GroupVersionKind, error) {
	to := into
	if to == nil {
		to = reflect.New(c.blank.Elem()).Interface().(apiruntime.Object)
	}
	if reflect.TypeOf(to) == c.blank {
		if o, kind, err := c.quick.Decode(data, nil, to); err == nil && o == to {
			return o, kind, nil
		}
	}
	return c.Codec.Decode(data, defaults, into)
}

// reader reads the JSON of one kind of object, in the version in which it is stored.
type reader struct {
	kind  schema.GroupVersionKind
	brief bool // the objects are not kept
}

// NewDecoder returns a decoder to the version that upstream holds in memory, of which
// example is an object.
func NewDecoder(stored apiruntime.GroupVersioner, example apiruntime.Object) (apiruntime.Decoder, error) {
	return newDecoder(stored, example, false)
}

// NewBriefDecoder returns one for objects that are not kept, of documents that nobody
// changes: it is quicker yet, but the texts of an object lie in the document.
func NewBriefDecoder(stored apiruntime.GroupVersioner, example apiruntime.Object) (apiruntime.Decoder, error) {
	return newDecoder(stored, example, true)
}

func newDecoder(stored apiruntime.GroupVersioner, example apiruntime.Object, brief bool) (apiruntime.Decoder, error) {
	kinds, _, err := legacyscheme.Scheme.ObjectKinds(example)
	if err != nil {
		return nil, err
	}
	kind, ok := stored.KindForGroupVersionKinds(kinds)
	if !ok {
		return nil, fmt.Errorf("upstream does not say in which version it stores a %s", kinds[0])
	}
	memory := kinds[0].GroupVersion()
	return legacyscheme.Codecs.DecoderToVersion(reader{kind, brief}, apiruntime.NewCoercingMultiGroupVersioner(
		memory, schema.GroupKind{Group: memory.Group}, schema.GroupKind{Group: kind.Group},
	)), nil
}

// What the log holds is canonical, so there is no need to look for these again.
var asUpstream = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// Decode implements runtime.Decoder.
func (q reader) Decode(data []byte, _ *schema.GroupVersionKind, _ apiruntime.Object) (apiruntime.Object, *schema.GroupVersionKind, error) {
	o, err := legacyscheme.Scheme.New(q.kind)
	if err != nil {
		return nil, nil, err
	}
	if !q.brief || !parse.Brief.Read(data, o) {
		if q.brief {
			o, _ = legacyscheme.Scheme.New(q.kind) // without what was read of it
		}
		if err := json.Unmarshal(data, o, asUpstream); err != nil {
			return nil, nil, err
		}
	}
	if is := o.GetObjectKind().GroupVersionKind(); is != q.kind {
		return nil, nil, fmt.Errorf("it is a %s, not a %s", is, q.kind)
	}
	return o, &q.kind, nil
}
