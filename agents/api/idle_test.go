package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/warning"
)

// told collects warnings.
type told []string

// AddWarning implements warning.Recorder.
func (t *told) AddWarning(_, text string) { *t = append(*t, text) }

// Who creates what nobody acts on is warned, and nobody else.
func TestIdleObjectsAreWarnedOf(t *testing.T) {
	anna := &user.DefaultInfo{Name: "anna"}
	set := request.RequestInfo{IsResourceRequest: true, APIGroup: "apps", Resource: "statefulsets"}
	as := func(info request.RequestInfo, verb, resource, sub string) *request.RequestInfo {
		info.Verb, info.Resource, info.Subresource = verb, resource, sub
		return &info
	}
	for _, c := range []struct {
		what    string
		info    *request.RequestInfo
		content string
		by      user.Info
		warned  bool
	}{
		{"a creation", as(set, "create", "statefulsets", ""), "", anna, true},
		{"an object that is applied", as(set, "patch", "statefulsets", ""), "application/apply-patch+yaml", anna, true},
		{"an object that is applied as CBOR", as(set, "patch", "statefulsets", ""), "application/apply-patch+cbor", anna, true},
		{"a patch", as(set, "patch", "statefulsets", ""), "application/json-patch+json", anna, false},
		{"a list", as(set, "list", "statefulsets", ""), "", anna, false},
		{"a part of it", as(set, "create", "statefulsets", "scale"), "", anna, false},
		{"what is acted on", as(set, "create", "deployments", ""), "", anna, false},
		{"the server's own", as(set, "create", "statefulsets", ""), "", &user.DefaultInfo{Name: user.APIServerUser}, false},
	} {
		var heard told
		ctx := warning.WithWarningRecorder(request.WithUser(request.WithRequestInfo(context.Background(), c.info), c.by), &heard)
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", nil)
		r.Header.Set("Content-Type", c.content)
		passed := false
		warned(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed = true })).ServeHTTP(httptest.NewRecorder(), r)
		if !passed || (len(heard) == 1) != c.warned {
			t.Errorf("%s: passed on: %t, warned of %q", c.what, passed, heard)
		}
	}
}

// What is idle is what the README says does nothing yet.
func TestTheReadmeNamesWhatIsIdle(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "## Not there yet")
	section, _, _ := strings.Cut(after, "\n## ")
	said := strings.ToLower(strings.Join(strings.Fields(section), ""))
	for resource := range idle {
		if !strings.Contains(said, resource.Resource) {
			t.Errorf("the README does not say that nobody acts on %s", resource)
		}
	}
}
