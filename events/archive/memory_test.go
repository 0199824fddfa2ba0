package archive_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/archive"
)

// allocated says how many bytes a function has taken, those it gave back included.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// endless makes a history of any length, one batch at a time: deployments that are
// created and then scaled for ever.
type endless struct {
	n     uint64
	chain [32]byte
	batch []events.Event
}

func (g *endless) next() []events.Event {
	g.batch = g.batch[:0]
	for range 500 {
		g.n++
		e := events.Event{
			Sequence: g.n, Type: "deployment.scaled", UID: "2f0c6a0e-8d1b-4f0e-9f5e-0a54dd3e5a3c",
			Object: events.Ref{Group: "apps", Resource: "deployments", Namespace: "shop", Name: fmt.Sprintf("web-%d", g.n%500)},
			Actor:  events.Actor{Kind: "api", Version: "v1"}, User: "admin", Audit: fmt.Sprintf("0a54dd3e-%08x", g.n*2654435761),
			Cause: g.n / 2, Time: time.UnixMilli(1_790_000_000_000 + int64(g.n)),
			Data: fmt.Appendf(nil, `[{"op":"replace","path":"/spec/replicas","value":%d},{"op":"replace","path":"/metadata/generation","value":%d}]`, g.n%7, g.n),
		}
		e.Chain = events.Link(g.chain, &e)
		g.chain = e.Chain
		g.batch = append(g.batch, e)
	}
	return g.batch
}

// TestMemoryIsFlat writes and reads at the same time an archive of a few events and
// one of 25 times as many, and compares the heaps.
func TestMemoryIsFlat(t *testing.T) {
	small, large := heap(t, 20_000), heap(t, 500_000)
	t.Logf("heap while an archive is written and read: %d kB with 20,000 events, %d kB with 500,000", small>>10, large>>10)
	if large > small+8<<20 {
		t.Errorf("with 20,000 events the heap has %d kB, with 500,000 it has %d", small>>10, large>>10)
	}
}

// heap is the most that was in use while an archive of n events passed through.
func heap(t *testing.T, n uint64) (most uint64) {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		a, err := archive.NewWriter(w, archive.Header{From: 1, To: n})
		for g := (&endless{}); err == nil && g.n < n; {
			err = a.Append(g.next())
		}
		if err == nil {
			err = a.Close()
		}
		written <- errors.Join(err, w.CloseWithError(err))
	}()
	blocks := 0
	_, footer, err := archive.Check(r, func(*archive.Reader) error {
		if blocks++; blocks%10 != 1 {
			return nil
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
		return nil
	})
	if err := errors.Join(err, <-written); err != nil || footer.Events != n {
		t.Fatalf("%d events: %v", footer.Events, err)
	}
	return most
}

// mixed is events of all sizes, and how many bytes they have as the archive counts.
func mixed(n int) (all []events.Event, raw int64) {
	all = history(n)
	for i := range all {
		raw += int64(len(all[i].AppendSealed(nil)))
	}
	return all, raw
}

func BenchmarkWrite(b *testing.B) {
	all, raw := mixed(50_000)
	b.SetBytes(raw)
	size := int64(0)
	for b.Loop() {
		w, err := archive.NewWriter(io.Discard, archive.Header{From: 1, To: uint64(len(all))})
		if err = errors.Join(err, w.Append(all), w.Close()); err != nil {
			b.Fatal(err)
		}
		size = w.Written()
	}
	b.ReportMetric(float64(len(all)*b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(raw)/float64(size), "compression")
}

func BenchmarkCheck(b *testing.B) {
	all, raw := mixed(50_000)
	file := write(b, all, 1, uint64(len(all)))
	b.SetBytes(raw)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := archive.Check(bytes.NewReader(file), nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(all)*b.N)/b.Elapsed().Seconds(), "events/s")
}
