package quick

import (
	"maps"
	"reflect"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/kubernetes/pkg/apis/core"
)

// Equal says what reflect.DeepEqual says, of objects of the API: trees, in which there
// are no cycles to be remembered, so that comparing makes no garbage, but for maps of
// which pods have none. Memory that both share is not looked at.
func Equal[T any](a, b *T) bool {
	return a == b || equal(reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem())
}

func equal(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			if !equal(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() || a.UnsafePointer() == b.UnsafePointer() {
			return a.UnsafePointer() == b.UnsafePointer()
		}
		return equal(a.Elem(), b.Elem())
	case reflect.Slice:
		if a.IsNil() != b.IsNil() || a.Len() != b.Len() {
			return false
		}
		return a.UnsafePointer() == b.UnsafePointer() || equalItems(a, b)
	case reflect.Array:
		return equalItems(a, b)
	case reflect.Map:
		return equalMaps(a, b)
	case reflect.Interface:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return a.Elem().Type() == b.Elem().Type() && equal(a.Elem(), b.Elem())
	case reflect.Func:
		return a.IsNil() && b.IsNil()
	}
	return a.Equal(b)
}

func equalItems(a, b reflect.Value) bool {
	for i := range a.Len() {
		if !equal(a.Index(i), b.Index(i)) {
			return false
		}
	}
	return true
}

func equalMaps(a, b reflect.Value) bool {
	if a.IsNil() != b.IsNil() || a.Len() != b.Len() {
		return false
	}
	if a.UnsafePointer() == b.UnsafePointer() {
		return true
	}
	if a.CanInterface() && b.CanInterface() {
		switch m := a.Interface().(type) {
		case map[string]string:
			return maps.Equal(m, b.Interface().(map[string]string))
		case core.ResourceList:
			return maps.EqualFunc(m, b.Interface().(core.ResourceList), equalQuantities)
		case v1.ResourceList:
			return maps.EqualFunc(m, b.Interface().(v1.ResourceList), equalQuantities)
		}
	}
	for all := a.MapRange(); all.Next(); {
		other := b.MapIndex(all.Key())
		if !other.IsValid() || !equal(all.Value(), other) {
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
