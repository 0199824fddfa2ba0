package watchers_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/server/routine"

	"github.com/reprise-run/reprise/agents/api/watchers"
)

// pieces notes what is written at once.
type pieces struct {
	httptest.ResponseRecorder
	sizes   []int
	flushes int
}

func (p *pieces) Write(b []byte) (int, error) {
	p.sizes = append(p.sizes, len(b))
	return p.ResponseRecorder.Write(b)
}

func (p *pieces) Flush()                   { p.flushes++ }
func (p *pieces) CloseNotify() <-chan bool { return nil }

func serve(t *testing.T, verb string, task *routine.Task, h http.HandlerFunc) *pieces {
	t.Helper()
	p := &pieces{ResponseRecorder: httptest.ResponseRecorder{Body: &bytes.Buffer{}}}
	ctx := request.WithRequestInfo(t.Context(), &request.RequestInfo{IsResourceRequest: true, Verb: verb})
	if task != nil {
		ctx = routine.WithTask(ctx, task)
	}
	watchers.Batches(h).ServeHTTP(p, httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
	return p
}

func write(t *testing.T, w http.ResponseWriter, text string) {
	if n, err := w.Write([]byte(text)); n != len(text) || err != nil {
		t.Errorf("wrote %d: %v", n, err)
	}
}

// What is written between two flushes is sent in one piece.
func TestBatches(t *testing.T) {
	p := serve(t, "watch", nil, func(w http.ResponseWriter, _ *http.Request) {
		for _, word := range []string{"a", "b", "c"} {
			write(t, w, word)
		}
		w.(http.Flusher).Flush()
		write(t, w, "d")
		w.(http.Flusher).Flush()
		w.(http.Flusher).Flush()
	})
	if got := p.Body.String(); got != "abcd" || len(p.sizes) != 2 || p.flushes != 3 {
		t.Errorf("sent %q in pieces of %v, flushed %d times", got, p.sizes, p.flushes)
	}
}

// What is too much for a piece is sent in several, and what was not flushed at the end.
func TestBatchesOfMuch(t *testing.T) {
	long, longer := strings.Repeat("1", 20_000), strings.Repeat("2", 50_000)
	task := &routine.Task{}
	p := serve(t, "watch", task, func(w http.ResponseWriter, _ *http.Request) {
		task.Func = func() {
			for _, text := range []string{long, long, longer, "end"} {
				write(t, w, text)
			}
		}
	})
	if len(p.sizes) > 0 {
		t.Fatal("it was written before the watch began")
	}
	task.Func()
	if p.Body.String() != long+long+longer+"end" || len(p.sizes) != 4 {
		t.Errorf("sent %d bytes in pieces of %v", p.Body.Len(), p.sizes)
	}
}

// What is no watch is left alone.
func TestNoBatches(t *testing.T) {
	p := serve(t, "list", nil, func(w http.ResponseWriter, _ *http.Request) {
		write(t, w, "a")
		write(t, w, "b")
	})
	if len(p.sizes) != 2 {
		t.Errorf("sent in pieces of %v", p.sizes)
	}
}
