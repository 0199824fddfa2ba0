package pebble_test

import (
	"flag"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/eventsgen"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/pebble"
)

var (
	length = flag.Uint64("events", 1_000_000, "how many events the log has that the benchmarks of the history ask about")
	people = flag.Int("pods", 0, "about how many pods are alive in it; 0 leaves it to the generator")
)

// shared is a projection of a long log, made once for all benchmarks.
var shared struct {
	once  sync.Once
	dir   string
	store *pebble.Store
	some  []events.Event // every 997th event, without its data
	err   error
}

// TestMain removes the projection that the benchmarks have shared.
func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if shared.store != nil {
		shared.store.Close()
	}
	if shared.dir != "" {
		os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// longHistory returns the projection of a long log, and some of its events.
func longHistory(b *testing.B) (*pebble.Store, []events.Event) {
	b.Helper()
	h := &shared
	h.once.Do(func() {
		if h.dir, h.err = os.MkdirTemp("", "history"); h.err != nil {
			return
		}
		if h.store, h.err = pebble.Open(h.dir, pebble.Options{Log: quiet}); h.err != nil {
			return
		}
		state := projections.NewState()
		for batch := range generator().Batches(1000) {
			for _, ev := range batch {
				if ev.Sequence%997 == 0 {
					ev.Data, ev.Note = nil, nil
					h.some = append(h.some, ev)
				}
			}
			var changes []projections.Change
			if changes, h.err = state.Fold(batch); h.err == nil {
				h.err = h.store.Commit(batch, changes)
			}
			if h.err != nil {
				return
			}
		}
		if h.err = h.store.Close(); h.err != nil {
			return
		}
		// Opened again, so that nothing is in memory that would not be a day later.
		h.store, h.err = pebble.Open(h.dir, pebble.Options{Log: quiet})
	})
	if h.err != nil {
		b.Fatal(h.err)
	}
	return h.store, h.some
}

func generator() *eventsgen.Generator {
	return eventsgen.New(eventsgen.Options{Seed: 1, Events: *length, Pods: *people})
}

// processor is the time that the processors have spent on this process: unlike
// the clock it means something on a machine that others use too.
func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// lap is how long people wait for answers, one by one.
type laps struct {
	b     *testing.B
	took  []time.Duration
	start time.Duration
}

func newLaps(b *testing.B) *laps { return &laps{b: b, start: processor(b)} }

// time asks once.
func (l *laps) time(ask func() error) {
	start := time.Now()
	err := ask()
	l.took = append(l.took, time.Since(start))
	if err != nil {
		l.b.Fatal(err)
	}
}

// report prints the middle, the slow and the slowest answer.
func (l *laps) report() {
	slices.Sort(l.took)
	n := len(l.took)
	for _, p := range []struct {
		name string
		took time.Duration
	}{{"p50-ms", l.took[n/2]}, {"p99-ms", l.took[n*99/100]}, {"max-ms", l.took[n-1]}} {
		l.b.ReportMetric(p.took.Seconds()*1000, p.name)
	}
	l.b.ReportMetric((processor(l.b)-l.start).Seconds()*1000/float64(n), "cpu-ms/op")
	l.b.ReportMetric(0, "ns/op")
}

// heap is the memory that is in use, after garbage was collected.
func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// peak is the most memory that the process has ever had, in MB.
func peak(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Maxrss) / 1024
}

// dice are random numbers, the same each time.
type dice uint64

func (d *dice) below(n int) int {
	*d = *d*6364136223846793005 + 1442695040888963407
	return int(uint64(*d>>33) % uint64(n))
}
