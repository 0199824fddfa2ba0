package past_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericapiserver "k8s.io/apiserver/pkg/server"

	"github.com/reprise-run/reprise/agents/api/past"
)

// TestWhatEverybodyMayAskStartsNothing asks what needs no credentials: the present
// answers, and no servers are started for it.
func TestWhatEverybodyMayAskStartsNothing(t *testing.T) {
	p := past.New(past.Options{Reader: newStore(t)})
	t.Cleanup(p.Close)
	resolver := &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	present := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Path", r.URL.Path) })
	h := p.Wrap(func(h http.Handler, _ *genericapiserver.Config) http.Handler {
		return filters.WithRequestInfo(h, resolver)
	})(present, nil)
	for path, want := range map[string]string{
		"/rewind/@1/version": "/version", "/rewind/now/livez/ping": "/livez/ping", "/rewind/@1/readyz": "/readyz",
		"/rewind/@1/healthz": "/healthz", "/rewind/@1/metrics": "/metrics",
		"/rewind/@1/api/v1/pods": "", "/rewind/@1/versions": "", "/rewind/@1/rewind/@1/version": "",
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if got := w.Header().Get("Path"); got != want {
			t.Errorf("%s reaches %q in the present, not %q", path, got, want)
		}
	}
	if n := p.Running(); n != 0 {
		t.Errorf("%d chains of servers run", n)
	}
}
