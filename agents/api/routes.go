package api

import (
	"fmt"
	"reflect"

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
