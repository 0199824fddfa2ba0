// Package documents serves what an API server of upstream's says of its types and
// routes: the OpenAPI documents, by which clients explain, validate and merge.
//
// Upstream makes all of them when it starts and keeps each in several forms: half of
// what a server held that had nothing to do was documents that nobody had asked for.
// Here a document is made by upstream's code when it is asked for, and is kept no
// longer than the collector lets it lie. What is kept is the index of the third
// version, which names each document by its hash: clients ask for that all the time,
// and for what they have not seen yet.
//
// Only agents/api uses it. It changes no document, and says nothing of custom resources:
// their documents change with them, and are upstream's.
package documents

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
	"weak"

	restful "github.com/emicklei/go-restful/v3"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"
	"k8s.io/apiserver/pkg/util/responsewriter"
	"k8s.io/kube-openapi/pkg/builder"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/common/restfuladapter"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/handler3"
)

const second, third = "/openapi/v2", "/openapi/v3" // where the versions of OpenAPI are served

// Prepare has upstream not make the documents of a server with this configuration, and
// not keep its definitions of types because of any other's: a builder that finds no
// function to name a route by puts one there that holds on to all that it has built.
func Prepare(c *genericapiserver.Config) {
	c.SkipOpenAPIInstallation = true
	name := c.OpenAPIConfig.GetOperationIDAndTags
	byRoute := func(r common.Route) (string, []string, error) {
		of, ok := r.(*restfuladapter.RouteAdapter)
		if !ok {
			return "", nil, fmt.Errorf("a %T is no route of a web service", r)
		}
		return name(of.Route)
	}
	c.OpenAPIConfig.GetOperationIDAndTagsFromRoute = byRoute
	c.OpenAPIV3Config.GetOperationIDAndTagsFromRoute = byRoute
}

// Install has s answer for its documents. Its configuration has been
// prepared, and all its routes are there.
func Install(s *genericapiserver.GenericAPIServer, v2 *common.Config, v3 *common.OpenAPIV3Config) error {
	whole := s.Handler.GoRestfulContainer
	parts := map[string]*document{}
	index := handler3.OpenAPIV3Discovery{Paths: map[string]handler3.OpenAPIV3DiscoveryGroupVersion{}}
	for _, service := range whole.RegisteredWebServices() {
		part := &document{make: func() (http.Handler, error) { return ofThird(service, v3) }}
		if err := enter(part, &index); err != nil {
			return fmt.Errorf("cannot make the documents of %s: %w", service.RootPath(), err)
		}
		parts[third+service.RootPath()] = part
	}
	page, err := json.Marshal(index)
	if err != nil {
		return err
	}
	made := time.Now()
	to := s.Handler.NonGoRestfulMux
	to.Handle(third, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		http.ServeContent(w, r, "", made, bytes.NewReader(page))
	}))
	to.HandlePrefix(third+"/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if part, ok := parts[r.URL.Path]; ok {
			part.ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	}))
	to.Handle(second, &document{make: func() (http.Handler, error) { return ofSecond(whole, v2) }})
	return nil
}

// ofSecond serves the second version's one document, which is about all routes.
func ofSecond(all *restful.Container, c *common.Config) (http.Handler, error) {
	spec, err := builder.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices(all.RegisteredWebServices()), c)
	if err != nil {
		return nil, err
	}
	spec.Definitions = handler.PruneDefaults(spec.Definitions)
	to := mux.NewPathRecorderMux("openapi")
	handler.NewOpenAPIService(spec).RegisterOpenAPIVersionedService(second, to)
	return to, nil
}

// ofThird serves the third version's document about the routes of one service, and an
// index of that one.
func ofThird(service *restful.WebService, c *common.OpenAPIV3Config) (http.Handler, error) {
	to := mux.NewPathRecorderMux("openapi")
	routes.OpenAPI{V3Config: c}.InstallV3(restful.NewContainer().Add(service), to)
	return to, nil
}

// enter adds to an index what a document's own index says.
func enter(d *document, index *handler3.OpenAPIV3Discovery) error {
	r, err := http.NewRequest(http.MethodGet, third, nil)
	if err != nil {
		return err
	}
	w := responsewriter.NewInMemoryResponseWriter()
	d.ServeHTTP(w, r)
	if w.RespCode() != http.StatusOK {
		return fmt.Errorf("%d: %s", w.RespCode(), w.Data())
	}
	return json.Unmarshal(w.Data(), index) // adds to the map that is there
}

// document is made when it is asked for.
type document struct {
	make func() (http.Handler, error)

	mu   sync.Mutex // held while it is made, so that it is made once for all who wait
	made weak.Pointer[http.Handler]
	tag  string // the entity tag of what it was, which it will be again: its routes do not change
}

// ServeHTTP implements http.Handler.
func (d *document) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, tag, err := d.get(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if h == nil {
		w.Header().Set("Etag", tag)
		w.Header().Add("Vary", "Accept")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	(*h).ServeHTTP(w, r)
	if got := w.Header().Get("Etag"); got != "" && got != tag {
		d.mu.Lock()
		d.tag = got
		d.mu.Unlock()
	}
}

// get returns what answers a request, or nil if who asks has the document that has the tag.
func (d *document) get(r *http.Request) (h *http.Handler, tag string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tag != "" && r.Header.Get("If-None-Match") == d.tag {
		return nil, d.tag, nil
	}
	if h = d.made.Value(); h == nil {
		made, err := d.make()
		if err != nil {
			return nil, "", err
		}
		h = &made
		d.made = weak.Make(h)
	}
	return h, d.tag, nil
}
