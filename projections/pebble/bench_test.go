package pebble_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/pebble"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// life is the history of pods as a cluster writes it: created, bound, and three
// changes of status each, of documents of about 4 kB.
func life(pods int) *projectionstest.History {
	h := projectionstest.NewHistory()
	env := strings.Repeat(`{"name":"SOME_VARIABLE","value":"some value of it"},`, 60)
	for i := range pods {
		ref := projectionstest.Pod(fmt.Sprintf("ns%d", i%20), fmt.Sprintf("web-%06d", i))
		h.Create(ref, fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","env":[%s]}]},"status":{"phase":"Pending"}}`,
			ref.Name, strings.TrimSuffix(env, ",")))
		h.Update(ref, fmt.Sprintf(`[{"op":"add","path":"/spec/nodeName","value":"n%d"}]`, i%100))
		h.Update(ref, `[{"op":"add","path":"/status/conditions","value":[{"type":"Ready","status":"False"},{"type":"Initialized","status":"True"}]}]`)
		h.Update(ref, `[{"op":"replace","path":"/status/phase","value":"Running"},{"op":"add","path":"/status/podIP","value":"10.1.2.3"}]`)
		h.Update(ref, `[{"op":"replace","path":"/status/conditions/0/status","value":"True"}]`)
	}
	return h
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

func BenchmarkRebuild(b *testing.B) {
	h := life(4000)
	for _, durable := range []bool{false, true} {
		b.Run(map[bool]string{false: "memory", true: "durable"}[durable], func(b *testing.B) {
			b.ReportAllocs()
			start := processor(b)
			for b.Loop() {
				state := projections.NewState()
				var s *pebble.Store
				if durable {
					var err error
					if s, err = pebble.Open(b.TempDir(), pebble.Options{Log: quiet}); err != nil {
						b.Fatal(err)
					}
				}
				for i := 0; i < len(h.Events); i += 250 {
					batch := h.Events[i:min(i+250, len(h.Events))]
					changes, err := state.Fold(batch)
					if err != nil {
						b.Fatal(err)
					}
					if durable {
						if err := s.Commit(batch, changes); err != nil {
							b.Fatal(err)
						}
					}
				}
				if durable {
					if err := s.Close(); err != nil {
						b.Fatal(err)
					}
				}
			}
			total := float64(len(h.Events) * b.N)
			b.ReportMetric(total/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64((processor(b)-start).Nanoseconds())/1000/total, "cpu-us/event")
		})
	}
}

func BenchmarkPast(b *testing.B) {
	h := life(4000)
	s, err := pebble.Open(b.TempDir(), pebble.Options{Log: quiet})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	fill(b, s, h.Events, 1000)
	middle := uint64(len(h.Events) / 2)
	b.Run("At", func(b *testing.B) {
		for b.Loop() {
			if e, err := s.At(h.Events[middle-1].Object, middle); err != nil || e == nil {
				b.Fatal(e, err)
			}
		}
	})
	b.Run("ListAt", func(b *testing.B) {
		for b.Loop() {
			n := 0
			for _, err := range s.ListAt(b.Context(), "", "pods", "", middle) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			if n != 2000 {
				b.Fatal(n)
			}
		}
	})
}
