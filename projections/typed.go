package projections

import (
	standard "encoding/json"
	"fmt"
	"reflect"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/events"
)

// memo is what is known of an entry beside its bytes: the decoded object, or from
// what to make it.
type memo struct {
	object any                // a pointer to a Go type of the Kubernetes API
	meta   *metav1.ObjectMeta // that of object, if there is one

	// While there is no object: that of an earlier version, and what differs.
	earlier any
	touched touched
}

// As returns the object as a Go type of the Kubernetes API, decoded at its first
// use and then shared: nobody may change it. Versions of an object share what is
// the same in them. It panics if the stored object is not of that shape, which the
// gate and the fold make impossible.
func As[T any](e *Entry) *T {
	if m := e.memo.Load(); m != nil {
		if t, ok := m.object.(*T); ok {
			return t
		}
	}
	return e.typed(reflect.TypeFor[T]()).(*T)
}

// Typed is As for a type that is known when the program runs: it returns a pointer
// to one of it. In place of panicking it returns an error.
func (e *Entry) Typed(t reflect.Type) (object any, err error) {
	defer func() {
		if failed, ok := recover().(*shapeError); ok {
			object, err = nil, failed
		}
	}()
	return e.typed(t), nil
}

// shapeError says that a stored object is not what it should be.
type shapeError struct {
	entry *Entry
	is    string
	cause error
}

func (e *shapeError) Error() string {
	return fmt.Sprintf("%s at sequence %d %s: %v", e.entry.Ref, e.entry.Sequence, e.is, e.cause)
}

func (e *shapeError) Unwrap() error { return e.cause }

// typed returns a pointer to a t, which is kept unless the entry is known as
// something else.
func (e *Entry) typed(t reflect.Type) any {
	for {
		m := e.memo.Load()
		if m == nil {
			if !e.memo.CompareAndSwap(nil, &memo{}) {
				continue
			}
			m = e.memo.Load()
		}
		if m.object != nil && reflect.TypeOf(m.object).Elem() == t {
			return m.object
		}
		object, err := e.make(t, m)
		if err != nil {
			panic(&shapeError{e, "is not a " + t.String(), err})
		}
		if m.object != nil {
			return object // of a type that few ask for
		}
		known := &memo{object: object, meta: m.meta}
		if o, ok := object.(metav1.ObjectMetaAccessor); ok {
			if meta, ok := o.GetObjectMeta().(*metav1.ObjectMeta); ok {
				known.meta = meta
			}
		}
		if e.memo.CompareAndSwap(m, known) {
			return object
		}
	}
}

// make decodes the object, or as much of it as differs from an earlier version.
func (e *Entry) make(t reflect.Type, m *memo) (any, error) {
	v := reflect.New(t)
	if m.earlier != nil && reflect.TypeOf(m.earlier).Elem() == t {
		v.Elem().Set(reflect.ValueOf(m.earlier).Elem())
		if m.touched.decode(e, v.Elem()) == nil {
			return v.Interface(), nil
		}
		v = reflect.New(t)
	}
	return v.Interface(), e.decode(e.Raw, v)
}

// What is stored is canonical, so there is no need to look for these again.
var stored = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// decode decodes a stored object, or a value in it, into the zero value of a Go type of the
// Kubernetes API to which v points. What the quicker reader does not take, such as a number
// that is written in another way, the next one may.
func (e *Entry) decode(raw []byte, v reflect.Value) error {
	into := v.Interface()
	if e.isAlike() {
		if alike.Read(raw, into) {
			return nil
		}
		v.Elem().SetZero()
	}
	if json.Unmarshal(raw, into, stored) == nil {
		return nil
	}
	v.Elem().SetZero()
	return standard.Unmarshal(raw, into)
}

// Meta returns the object's metadata, decoded at its first use and then shared.
func (e *Entry) Meta() *metav1.ObjectMeta {
	for {
		m := e.memo.Load()
		if m != nil && m.meta != nil {
			return m.meta
		}
		known := &memo{}
		if m != nil {
			*known = *m
		}
		var err error
		if known.meta, err = e.decodeMeta(m); err != nil {
			panic(&shapeError{e, "has no proper metadata", err})
		}
		if e.memo.CompareAndSwap(m, known) {
			return known.meta
		}
	}
}

// decodeMeta decodes the metadata, or as much as differs from an earlier version.
func (e *Entry) decodeMeta(m *memo) (*metav1.ObjectMeta, error) {
	var o struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
	}
	if m != nil {
		if earlier, ok := m.earlier.(metav1.ObjectMetaAccessor); ok {
			if meta, ok := earlier.GetObjectMeta().(*metav1.ObjectMeta); ok {
				o.Metadata = *meta
				if m.touched.decode(e, reflect.ValueOf(&o).Elem()) == nil {
					return &o.Metadata, nil
				}
				o.Metadata = metav1.ObjectMeta{}
			}
		}
	}
	value := e.Lookup("metadata")
	if value == nil {
		return &o.Metadata, nil
	}
	return &o.Metadata, e.decode(value, reflect.ValueOf(&o.Metadata))
}

// Intact returns an error if somebody has changed what is decoded, which all who read
// the entry share, and in part those who read other versions and other objects. It is
// for tests.
func (e *Entry) Intact() error {
	m := e.memo.Load()
	if m == nil {
		return nil
	}
	if m.object != nil {
		read := reflect.New(reflect.TypeOf(m.object).Elem()).Interface()
		if err := json.Unmarshal(e.Raw, read, stored); err != nil || !reflect.DeepEqual(m.object, read) {
			return &shapeError{e, "was changed after it had been decoded", fmt.Errorf("it is now %+v (%v)", m.object, err)}
		}
	}
	if m.meta != nil {
		var read metav1.ObjectMeta
		var err error
		if value := events.Lookup(e.Raw, "metadata"); value != nil {
			err = json.Unmarshal(value, &read, stored)
		}
		if err != nil || !reflect.DeepEqual(m.meta, &read) {
			return &shapeError{e, "was changed after its metadata had been decoded", fmt.Errorf("they are now %+v (%v)", m.meta, err)}
		}
	}
	return nil
}
