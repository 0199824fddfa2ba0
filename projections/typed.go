package projections

import (
	standard "encoding/json"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// As returns the object as a Go type of the Kubernetes API, decoded at its first
// use and then shared: nobody may change it. It panics if the stored object is
// not of that shape, which the gate and the fold make impossible.
func As[T any](e *Entry) *T {
	if t, ok := e.decoded.Load().(*T); ok {
		return t
	}
	t := new(T)
	if err := decode(e.Raw, t); err != nil {
		panic(fmt.Sprintf("%s at sequence %d is not a %T: %v", e.Ref, e.Sequence, *t, err))
	}
	e.decoded.CompareAndSwap(nil, t)
	return t
}

// What is stored is canonical, so there is no need to look for these again.
var stored = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// decode decodes a stored object into a Go type of the Kubernetes API. What the
// quicker reader does not take, such as a number that is written in another way, the
// standard one may.
func decode[T any](raw []byte, into *T) error {
	if json.Unmarshal(raw, into, stored) == nil {
		return nil
	}
	*into = *new(T)
	return standard.Unmarshal(raw, into)
}

// Meta returns the object's metadata, decoded at its first use and then shared.
func (e *Entry) Meta() *metav1.ObjectMeta {
	if m := e.meta.Load(); m != nil {
		return m
	}
	var o struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
	}
	if err := decode(e.Raw, &o); err != nil {
		panic(fmt.Sprintf("%s at sequence %d has no proper metadata: %v", e.Ref, e.Sequence, err))
	}
	e.meta.CompareAndSwap(nil, &o.Metadata)
	return e.meta.Load()
}
