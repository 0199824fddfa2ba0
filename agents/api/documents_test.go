package api_test

import (
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
)

// TestDocuments has each document made after the index has promised what its hash
// is, and made again after the collector has taken it.
func TestDocuments(t *testing.T) {
	s := start(t)
	var index struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}
	if err := json.Unmarshal(s.page(t, "/openapi/v3", nil), &index); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"api/v1", "apis/apps/v1", "apis/apiextensions.k8s.io/v1", "apis/apiregistration.k8s.io/v1", "version"} {
		if _, ok := index.Paths[path]; !ok {
			t.Errorf("the index does not list %s", path)
		}
	}
	for range 2 {
		for path, at := range index.Paths {
			body := s.page(t, at.ServerRelativeURL, nil)
			if want := fmt.Sprintf("hash=%X", sha512.Sum512(body)); !strings.HasSuffix(at.ServerRelativeURL, want) {
				t.Errorf("%s is named %s, and its %s", path, at.ServerRelativeURL, want)
			}
		}
		runtime.GC()
	}
	if body := s.page(t, "/openapi/v3/apis/apps/v1", nil); !strings.Contains(string(body), "DeploymentStrategy describes how to replace existing pods") {
		t.Error("the types of apps/v1 are not explained")
	}
	var status int
	s.CoreV1().RESTClient().Get().AbsPath("/openapi/v3/apis/none/v1").Do(t.Context()).StatusCode(&status)
	if status != http.StatusNotFound {
		t.Errorf("a document that there is not: %d", status)
	}
}

// TestDocumentOfVersion2 has the aggregator ask the servers behind it again, each time
// that it is asked: they say that nothing has changed and make nothing.
func TestDocumentOfVersion2(t *testing.T) {
	s := start(t)
	first := s.page(t, "/openapi/v2", nil)
	var doc struct {
		Definitions, Paths map[string]any
	}
	if err := json.Unmarshal(first, &doc); err != nil || doc.Definitions["io.k8s.api.apps.v1.Deployment"] == nil || doc.Paths["/api/v1/namespaces/{namespace}/pods"] == nil {
		t.Fatalf("%d bytes with %d types and %d paths, %v", len(first), len(doc.Definitions), len(doc.Paths), err)
	}
	runtime.GC()
	if again := s.page(t, "/openapi/v2", nil); string(again) != string(first) {
		t.Errorf("%d bytes, and then %d others", len(first), len(again))
	}
	proto := http.Header{"Accept": {"application/com.github.proto-openapi.spec.v2@v1.0+protobuf"}}
	if body := s.page(t, "/openapi/v2", proto); len(body) == 0 || body[0] == '{' {
		t.Errorf("%d bytes that are not protobuf", len(body))
	}
}

// page gets what is at a path.
func (r *running) page(t *testing.T, path string, header http.Header) []byte {
	t.Helper()
	q := r.CoreV1().RESTClient().Get().RequestURI(path)
	for key, values := range header {
		q.SetHeader(key, values...)
	}
	body, err := q.DoRaw(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return body
}
