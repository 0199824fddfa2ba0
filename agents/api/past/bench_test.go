package past_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/reprise-run/reprise/agents/api"
	"github.com/reprise-run/reprise/agents/api/past"
	"github.com/reprise-run/reprise/events/eventsgen"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/pebble"
)

var length = flag.Uint64("events", 1_000_000, "how many events the log has whose past is benchmarked")

// longHistory folds a long log into a projection on disk.
func longHistory(b *testing.B) *pebble.Store {
	b.Helper()
	dir, quiet := b.TempDir(), slog.New(slog.DiscardHandler)
	s, err := pebble.Open(dir, pebble.Options{FS: vfs.Default, Log: quiet})
	if err != nil {
		b.Fatal(err)
	}
	state := projections.NewState()
	for batch := range eventsgen.New(eventsgen.Options{Seed: 1, Events: *length}).Batches(1000) {
		changes, err := state.Fold(batch)
		if err == nil {
			err = s.Commit(batch, changes)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	// Opened again, so that nothing is in memory that would not be a day later.
	if s, err = pebble.Open(dir, pebble.Options{Log: quiet}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

// processor is how much time the processors spend on this process, server and client:
// unlike the clock it means something on a machine that others use too.
func processor(b *testing.B) func() {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric((used()-before).Seconds()*1000/float64(b.N), "cpu-ms/op") }
}

const table = "application/json;as=Table;v=v1;g=meta.k8s.io"

// BenchmarkPast reads the past over HTTPS, as a client does, two thirds into a log.
func BenchmarkPast(b *testing.B) {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	store := longHistory(b)
	ctx, cancel := context.WithCancel(b.Context())
	dir := b.TempDir()
	o := api.PastOptions{Dir: dir, Listener: listen(b), Kubeconfig: filepath.Join(dir, "kubeconfig"), Past: past.Options{Reader: store}}
	s, err := api.ServePast(ctx, o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cancel()
		<-s.Done()
	})
	config := clientOf(b, o.Kubeconfig)
	config.DisableCompression = true
	r := reading{b, config, *length * 2 / 3}
	var first list
	b.Run("page", func(b *testing.B) { // the first time with the start of the servers
		defer processor(b)()
		for range b.N {
			first = r.in(b).page("/api/v1/pods?limit=500", "application/json")
		}
	})
	b.Run("object", func(b *testing.B) {
		defer processor(b)()
		for i := range b.N {
			m := first.Items[i%len(first.Items)].Metadata
			r.in(b).get(fmt.Sprintf("/api/v1/namespaces/%s/pods/%s", m.Namespace, m.Name), "application/json")
		}
	})
	b.Run("list", func(b *testing.B) {
		defer processor(b)()
		n := 0
		for range b.N {
			n = len(r.in(b).page("/api/v1/pods", "application/json").Items)
		}
		b.ReportMetric(float64(n), "pods")
	})
	b.Run("listbytes", func(b *testing.B) { // and the client does not decode them
		defer processor(b)()
		for range b.N {
			r.in(b).get("/api/v1/pods", "application/json")
		}
	})
	b.Run("table", func(b *testing.B) {
		defer processor(b)()
		for range b.N {
			r.in(b).get("/api/v1/pods", table)
		}
	})
	b.Run("tablepages", func(b *testing.B) { // as kubectl get pods -A
		defer processor(b)()
		for range b.N {
			for l, next := (list{}), true; next; next = l.Metadata.Continue != "" {
				l = r.in(b).page("/api/v1/pods?limit=500&continue="+l.Metadata.Continue, table)
			}
		}
	})
}

// reading is a client at a moment.
type reading struct {
	b        *testing.B
	config   *restclient.Config
	sequence uint64
}

type list struct {
	Metadata struct{ Continue string }
	Items    []struct {
		Metadata struct{ Namespace, Name string }
	}
}

func (r reading) in(b *testing.B) reading {
	r.b = b
	return r
}

func (r reading) get(path, accept string) []byte {
	body, err := kubernetes.NewForConfigOrDie(r.config).CoreV1().RESTClient().Get().RequestURI(past.Prefix+fmt.Sprintf("@%d", r.sequence)+path).SetHeader("Accept", accept).DoRaw(context.Background())
	if err != nil {
		r.b.Fatal(path, err)
	}
	r.b.SetBytes(int64(len(body)))
	return body
}

func (r reading) page(path, accept string) (l list) {
	if err := json.Unmarshal(r.get(path, accept), &l); err != nil {
		r.b.Fatal(err)
	}
	return l
}
