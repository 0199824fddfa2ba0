package api

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	restful "github.com/emicklei/go-restful/v3"
)

// Requests are answered as before when the expressions are gone.
func TestRoutesWithoutExpressions(t *testing.T) {
	c := restful.NewContainer()
	c.Router(restful.CurlyRouter{})
	w := new(restful.WebService).Path("/api/v1")
	say := func(name string) restful.RouteFunction {
		return func(r *restful.Request, to *restful.Response) { fmt.Fprint(to, name, " ", r.PathParameters()) }
	}
	for path, name := range map[string]string{"/pods": "all", "/pods/{name}": "one", "/pods/{name}/proxy/{path:*}": "proxy"} {
		w.Route(w.GET(path).To(say("get " + name))).Route(w.PUT(path).To(say("put " + name)))
	}
	c.Add(w)
	answers := func() (all []string) {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodOptions} {
			for _, path := range []string{"/api/v1/pods", "/api/v1/pods/", "/api/v1/pods/a", "/api/v1/pods/a/proxy/b/c", "/api/v1/none", "/none"} {
				r := httptest.NewRecorder()
				c.ServeHTTP(r, httptest.NewRequest(method, path, nil))
				all = append(all, fmt.Sprint(method, path, r.Code, r.Header(), r.Body))
			}
		}
		return all
	}
	before := answers()
	if err := forgetExpressions(c); err != nil {
		t.Fatal(err)
	}
	for _, route := range w.Routes() {
		if !reflect.ValueOf(route).FieldByName("pathExpr").IsNil() {
			t.Errorf("%s %s has its expression still", route.Method, route.Path)
		}
	}
	if after := answers(); !reflect.DeepEqual(before, after) {
		t.Errorf("got\n%q\nwant\n%q", after, before)
	}
}

// Parameters that are described alike are described once, and no others.
func TestSharedParameters(t *testing.T) {
	c := restful.NewContainer()
	w := new(restful.WebService).Path("/api/v1")
	for i, about := range []string{"how many", "how many", "how much"} {
		w.Route(w.GET(fmt.Sprint("/pods/", i)).To(func(*restful.Request, *restful.Response) {}).
			Param(w.QueryParameter("limit", about)).Param(w.QueryParameter("pretty", "for people").DataType("string")))
	}
	c.Add(w)
	said := func() (all [][]restful.ParameterData) {
		for _, route := range w.Routes() {
			var of []restful.ParameterData
			for _, p := range route.ParameterDocs {
				of = append(of, p.Data())
			}
			all = append(all, of)
		}
		return all
	}
	before := said()
	shareParameters(c)
	if after := said(); !reflect.DeepEqual(before, after) {
		t.Errorf("got\n%v\nwant\n%v", after, before)
	}
	a, b, other := w.Routes()[0].ParameterDocs, w.Routes()[1].ParameterDocs, w.Routes()[2].ParameterDocs
	if &a[0] != &b[0] {
		t.Error("two lists alike are not one")
	}
	if a[0] == other[0] || a[1] != other[1] {
		t.Error("a parameter that differs is shared, or one that does not is not")
	}
}
