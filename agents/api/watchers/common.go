package watchers

import (
	"bytes"
	"io"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// common is an object for many watchers, encoded once for all who want it in the same
// form. Upstream makes such objects of what happens, and none of what it tells of the
// past.
type common struct {
	metav1.Object
	object runtime.Object
	borrow func() runtime.Object // one to be encoded; nil if that may write into all of it

	mu      sync.Mutex
	encoded map[runtime.Identifier]*encoding
}

type encoding struct {
	once sync.Once
	raw  []byte
	err  error
}

// newCommon returns an object with metadata as one for many. Nobody may change it.
func newCommon(o runtime.Object) runtime.Object {
	m, err := meta.Accessor(o)
	if err != nil {
		return o
	}
	return &common{Object: m, object: o, encoded: map[runtime.Identifier]*encoding{}}
}

// GetObject implements runtime.CacheableObject.
func (c *common) GetObject() runtime.Object { return c.object.DeepCopyObject() }

// GetObjectKind implements runtime.Object.
func (c *common) GetObjectKind() schema.ObjectKind { return c.object.GetObjectKind() }

// DeepCopyObject implements runtime.Object.
func (c *common) DeepCopyObject() runtime.Object { return newCommon(c.GetObject()) }

// CacheEncode implements runtime.CacheableObject.
func (c *common) CacheEncode(id runtime.Identifier, encode func(runtime.Object, io.Writer) error, w io.Writer) error {
	c.mu.Lock()
	e := c.encoded[id]
	if e == nil {
		e = &encoding{}
		c.encoded[id] = e
	}
	c.mu.Unlock()
	e.once.Do(func() {
		var b bytes.Buffer
		object := c.borrow
		if object == nil {
			object = c.GetObject
		}
		e.err = encode(object(), &b)
		e.raw = b.Bytes()
	})
	if e.err != nil {
		return e.err
	}
	if s, is := w.(runtime.Splice); is {
		s.Splice(e.raw)
		return nil
	}
	_, err := w.Write(e.raw)
	return err
}
