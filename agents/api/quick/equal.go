package quick

import (
	"bytes"
	"maps"
	"reflect"
	"sync"
	"unsafe"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/kubernetes/pkg/apis/core"
)

// Equal says what reflect.DeepEqual says, of objects of the API: trees, in which there
// are no cycles to be remembered, so that comparing makes no garbage, but for maps of
// which pods have none. Memory that both share is not looked at.
func Equal[T any](a, b *T) bool {
	return a == b || equalOf(reflect.TypeFor[T]())(unsafe.Pointer(a), unsafe.Pointer(b))
}

// equal compares two values of one type, which lie at a and b. It is made of a type once,
// so that comparing asks no more what the type is.
type equal func(a, b unsafe.Pointer) bool

// equals are those that have been made, by type.
var equals sync.Map // of reflect.Type to equal

// equalOf returns what compares values of a type.
func equalOf(t reflect.Type) equal {
	if known, is := equals.Load(t); is {
		return known.(equal)
	}
	made := equalIn(t, map[reflect.Type]*equal{})
	equals.Store(t, made)
	return made
}

// equalIn makes what compares values of a type that is a part of those that are being
// made, of one of which it may be a part itself.
func equalIn(t reflect.Type, making map[reflect.Type]*equal) equal {
	if at := making[t]; at != nil {
		return func(a, b unsafe.Pointer) bool { return (*at)(a, b) }
	}
	at := new(equal)
	making[t] = at
	switch t.Kind() {
	case reflect.Struct:
		*at = equalStructs(t, making)
	case reflect.Pointer:
		*at = equalPointers(t, making)
	case reflect.Slice:
		*at = equalSlices(t, making)
	case reflect.Array:
		*at = equalArrays(t, making)
	case reflect.String:
		*at = func(a, b unsafe.Pointer) bool { return *(*string)(a) == *(*string)(b) }
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		*at = equalMemory(t.Size())
	default:
		*at = func(a, b unsafe.Pointer) bool {
			return equalValues(reflect.NewAt(t, a).Elem(), reflect.NewAt(t, b).Elem())
		}
	}
	return *at
}

// equalMemory compares what has no pointers, no padding and one form for each value.
func equalMemory(size uintptr) equal {
	switch size {
	case 1:
		return func(a, b unsafe.Pointer) bool { return *(*uint8)(a) == *(*uint8)(b) }
	case 4:
		return func(a, b unsafe.Pointer) bool { return *(*uint32)(a) == *(*uint32)(b) }
	case 8:
		return func(a, b unsafe.Pointer) bool { return *(*uint64)(a) == *(*uint64)(b) }
	}
	return func(a, b unsafe.Pointer) bool {
		return bytes.Equal(unsafe.Slice((*byte)(a), size), unsafe.Slice((*byte)(b), size))
	}
}

func equalStructs(t reflect.Type, making map[reflect.Type]*equal) equal {
	type field struct {
		offset uintptr
		equal  equal
	}
	fields := make([]field, t.NumField())
	for i := range fields {
		fields[i] = field{t.Field(i).Offset, equalIn(t.Field(i).Type, making)}
	}
	return func(a, b unsafe.Pointer) bool {
		for i := range fields {
			if f := &fields[i]; !f.equal(unsafe.Add(a, f.offset), unsafe.Add(b, f.offset)) {
				return false
			}
		}
		return true
	}
}

func equalPointers(t reflect.Type, making map[reflect.Type]*equal) equal {
	item := equalIn(t.Elem(), making)
	return func(a, b unsafe.Pointer) bool {
		x, y := *(*unsafe.Pointer)(a), *(*unsafe.Pointer)(b)
		return x == y || x != nil && y != nil && item(x, y)
	}
}

func equalSlices(t reflect.Type, making map[reflect.Type]*equal) equal {
	item, size := equalIn(t.Elem(), making), t.Elem().Size()
	return func(a, b unsafe.Pointer) bool {
		// Of any type, its items are where those of one of bytes would be.
		x, y := *(*[]byte)(a), *(*[]byte)(b)
		if len(x) != len(y) || (x == nil) != (y == nil) {
			return false
		}
		p, q := unsafe.Pointer(unsafe.SliceData(x)), unsafe.Pointer(unsafe.SliceData(y))
		return p == q || equalItems(p, q, len(x), size, item)
	}
}

func equalArrays(t reflect.Type, making map[reflect.Type]*equal) equal {
	item, size, n := equalIn(t.Elem(), making), t.Elem().Size(), t.Len()
	return func(a, b unsafe.Pointer) bool { return equalItems(a, b, n, size, item) }
}

func equalItems(a, b unsafe.Pointer, n int, size uintptr, item equal) bool {
	for i := range uintptr(n) {
		if !item(unsafe.Add(a, i*size), unsafe.Add(b, i*size)) {
			return false
		}
	}
	return true
}

// equalValues compares what there is little of in objects, by asking what it is: maps,
// interfaces, functions, numbers with a fraction and channels.
func equalValues(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Map:
		return equalMaps(a, b)
	case reflect.Interface:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return a.Elem().Type() == b.Elem().Type() && equalCopies(a.Elem(), b.Elem())
	case reflect.Func:
		return a.IsNil() && b.IsNil()
	}
	return a.Equal(b)
}

// equalCopies compares values of one type that lie nowhere yet.
func equalCopies(a, b reflect.Value) bool {
	x, y := reflect.New(a.Type()), reflect.New(a.Type())
	x.Elem().Set(a)
	y.Elem().Set(b)
	return equalOf(a.Type())(x.UnsafePointer(), y.UnsafePointer())
}

func equalMaps(a, b reflect.Value) bool {
	if a.IsNil() != b.IsNil() || a.Len() != b.Len() {
		return false
	}
	if a.UnsafePointer() == b.UnsafePointer() {
		return true
	}
	switch m := a.Addr().Interface().(type) {
	case *map[string]string:
		return maps.Equal(*m, *b.Addr().Interface().(*map[string]string))
	case *core.ResourceList:
		return maps.EqualFunc(*m, *b.Addr().Interface().(*core.ResourceList), equalQuantities)
	case *v1.ResourceList:
		return maps.EqualFunc(*m, *b.Addr().Interface().(*v1.ResourceList), equalQuantities)
	}
	for all := a.MapRange(); all.Next(); {
		other := b.MapIndex(all.Key())
		if !other.IsValid() || !equalCopies(all.Value(), other) {
			return false
		}
	}
	return true
}

// equalQuantities compares what they point to, if they are too large for a number, as
// all else is compared.
func equalQuantities(a, b resource.Quantity) bool {
	if a == b {
		return true
	}
	x, y := a, b // in memory of their own only now
	return Equal(&x, &y)
}
