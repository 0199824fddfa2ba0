//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// testAggregation puts an API server of the test's own behind ours and asks it
// with kubectl: the request is authenticated here and served there.
func testAggregation(t *testing.T, c *cluster) {
	// Our server asks on its own account too, but for no objects.
	var askedForObjects atomic.Value
	mux := http.NewServeMux()
	serve := func(path, body string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(path, "/slices") {
				askedForObjects.Store(r.Header.Get("X-Remote-User"))
			}
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, body)
		})
	}
	serve("/apis/toast.example.com/v1", `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"toast.example.com/v1",
		"resources":[{"name":"slices","singularName":"slice","namespaced":true,"kind":"Slice","verbs":["get","list"]}]}`)
	serve("/apis/toast.example.com/v1/namespaces/default/slices", `{"kind":"SliceList","apiVersion":"toast.example.com/v1","metadata":{},
		"items":[{"kind":"Slice","apiVersion":"toast.example.com/v1","metadata":{"name":"crust","namespace":"default"}}]}`)
	extension := httptest.NewTLSServer(mux)
	t.Cleanup(extension.Close)
	address, err := url.Parse(extension.URL)
	if err != nil {
		t.Fatal(err)
	}
	c.apply(fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: toaster, namespace: default}
spec: {type: ExternalName, externalName: localhost}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.toast.example.com}
spec:
  group: toast.example.com
  version: v1
  groupPriorityMinimum: 1000
  versionPriority: 10
  insecureSkipTLSVerify: true
  service: {namespace: default, name: toaster, port: %s}
`, address.Port()))
	c.kubectl("wait", "--for=condition=Available", "apiservice/v1.toast.example.com", "--timeout=1m")
	c.eventually("kubectl finds the other server's objects", func() error {
		out, err := c.try("kubectl", "get", "slices.toast.example.com", "-o", "name")
		if err == nil && strings.TrimSpace(out) != "slice.toast.example.com/crust" {
			err = fmt.Errorf("it printed %q", out)
		}
		return err
	})
	if user := askedForObjects.Load(); user != "admin" {
		t.Errorf("the other server was told that %v asks, and not admin", user)
	}
	c.kubectl("delete", "apiservice/v1.toast.example.com", "service/toaster")
}
