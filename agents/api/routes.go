package api

import (
	"fmt"
	"reflect"
	"slices"

	restful "github.com/emicklei/go-restful/v3"
)

// forgetExpressions has the routes of a container not keep their paths as regular
// expressions, of which go-restful makes one for each: a tenth of what lives in a server
// with nothing to do. An API server's router (restful.CurlyRouter) goes by the parts of a
// path. What goes by expressions, upstream does not use: the other router, and go-restful's
// filters for CORS and for OPTIONS.
func forgetExpressions(of *restful.Container) error {
	for _, service := range of.RegisteredWebServices() {
		routes := service.Routes() // its own and no copy, as long as it is not dynamic
		for i := range routes {
			made := reflect.ValueOf(&routes[i]).Elem().FieldByName("pathExpr")
			if made.Kind() != reflect.Pointer {
				return fmt.Errorf("a route of go-restful has no expression of its path")
			}
			reflect.NewAt(made.Type(), made.Addr().UnsafePointer()).Elem().SetZero()
		}
	}
	return nil
}

// shareParameters has the routes of a container say the same of the same parameters:
// upstream describes each for each of a thousand routes anew, and a handful of kinds of
// requests take them all. Nobody changes a description once its route is there.
func shareParameters(of *restful.Container) {
	one := map[string][]*restful.Parameter{} // by name, no two alike
	all := map[string][][]*restful.Parameter{}
	for _, service := range of.RegisteredWebServices() {
		routes := service.Routes() // its own, as above
		for i := range routes {
			list, names := routes[i].ParameterDocs, ""
			for j, p := range list {
				name := p.Data().Name
				list[j] = known(one, name, p, func(a, b *restful.Parameter) bool { return reflect.DeepEqual(a.Data(), b.Data()) })
				names += name + " "
			}
			routes[i].ParameterDocs = known(all, names, slices.Clip(list), slices.Equal)
		}
	}
}

// known returns what is equal to v of those under key, and makes v one of them if nothing is.
func known[T any](of map[string][]T, key string, v T, equal func(a, b T) bool) T {
	for _, old := range of[key] {
		if equal(old, v) {
			return old
		}
	}
	of[key] = append(of[key], v)
	return v
}
