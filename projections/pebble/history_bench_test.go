package pebble_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections/history"
)

// The benchmarks here ask a projection of a million events what people ask it.
// Run them by `make bench-history`; docs/performance.md has figures.

// A past object: any object at any moment of its life.
func BenchmarkHistoryObjectAt(b *testing.B) {
	s, some := longHistory(b)
	l, d := newLaps(b), dice(1)
	for b.Loop() {
		ev := some[d.below(len(some))]
		l.time(func() error {
			_, err := s.At(ev.Object, ev.Sequence+uint64(d.below(1000)))
			return err
		})
	}
	l.report()
}

// All pods at a moment.
func BenchmarkHistoryListAt(b *testing.B) {
	s, _ := longHistory(b)
	for _, percent := range []uint64{10, 50, 100} {
		b.Run(fmt.Sprintf("at=%d%%", percent), func(b *testing.B) {
			l, n := newLaps(b), 0
			for b.Loop() {
				l.time(func() error {
					n = 0
					for _, err := range s.ListAt(b.Context(), "", "pods", "", s.Folded()*percent/100) {
						if err != nil {
							return err
						}
						n++
					}
					return nil
				})
			}
			l.report()
			b.ReportMetric(float64(n), "objects")
		})
	}
}

// The pods of one namespace at a moment.
func BenchmarkHistoryListNamespaceAt(b *testing.B) {
	s, some := longHistory(b)
	l, d := newLaps(b), dice(2)
	for b.Loop() {
		ev := some[d.below(len(some))]
		l.time(func() error {
			for _, err := range s.ListAt(b.Context(), "", "pods", ev.Object.Namespace, ev.Sequence) {
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	l.report()
}

// The whole cluster at a moment.
func BenchmarkHistoryStateAt(b *testing.B) {
	s, _ := longHistory(b)
	l := newLaps(b)
	for b.Loop() {
		l.time(func() error {
			_, err := s.StateAt(b.Context(), s.Folded()/2)
			return err
		})
	}
	l.report()
}

// What led to an event, up to a person.
func BenchmarkHistoryWhy(b *testing.B) {
	s, some := longHistory(b)
	l, d, longest := newLaps(b), dice(3), 0
	for b.Loop() {
		l.time(func() error {
			chain, err := history.Why(s, some[d.below(len(some))].Sequence)
			longest = max(longest, len(chain))
			return err
		})
	}
	l.report()
	b.ReportMetric(float64(longest), "longest-chain")
}

// What followed from an event, the first 1000 of it.
func BenchmarkHistoryWhyDown(b *testing.B) {
	s, some := longHistory(b)
	l, d := newLaps(b), dice(4)
	for b.Loop() {
		l.time(func() error {
			ev, err := s.Event(some[d.below(len(some))].Sequence)
			if err != nil {
				return err
			}
			told, err := history.Tell(s, ev)
			if err != nil {
				return err
			}
			_, _, err = history.Down(told, 1000, history.Following(b.Context(), s))
			return err
		})
	}
	l.report()
}

// Which event was the last at a time.
func BenchmarkHistorySequenceAt(b *testing.B) {
	s, some := longHistory(b)
	l, d := newLaps(b), dice(5)
	for b.Loop() {
		l.time(func() error {
			_, err := s.SequenceAt(some[d.below(len(some))].Time)
			return err
		})
	}
	l.report()
}

// Events by what people know of them. All but those of an object look at every
// envelope in between.
func BenchmarkHistoryEvents(b *testing.B) {
	s, some := longHistory(b)
	first, last := some[0].Time, some[len(some)-1].Time
	middle := first.Add(last.Sub(first) / 2)
	for _, c := range []struct {
		name string
		q    func(ev *events.Event) history.Query
	}{
		{"object", func(ev *events.Event) history.Query { return history.Query{Object: ev.Object} }},
		{"uid", func(ev *events.Event) history.Query { return history.Query{UID: ev.UID} }},
		{"namespace", func(ev *events.Event) history.Query { return history.Query{Namespace: "billing-2"} }},
		{"namespace-newest-50", func(ev *events.Event) history.Query {
			return history.Query{Namespace: "billing-2", Backward: true, Limit: 50}
		}},
		{"actor", func(*events.Event) history.Query { return history.Query{Actor: "node:n042"} }},
		{"user", func(*events.Event) history.Query { return history.Query{User: "alice@example.org"} }},
		{"type", func(*events.Event) history.Query { return history.Query{Type: "deployment.image-changed"} }},
		{"rare-type", func(*events.Event) history.Query { return history.Query{Type: "node.cordoned"} }},
		{"hour", func(*events.Event) history.Query { return history.Query{Since: middle, Until: middle.Add(time.Hour)} }},
		{"all", func(*events.Event) history.Query { return history.Query{} }},
	} {
		b.Run(c.name, func(b *testing.B) {
			l, d, n := newLaps(b), dice(6), 0
			for b.Loop() {
				q := c.q(&some[d.below(len(some))])
				l.time(func() error {
					for _, err := range s.Events(b.Context(), q) {
						if err != nil {
							return err
						}
						n++
					}
					return nil
				})
			}
			l.report()
			b.ReportMetric(float64(n)/float64(len(l.took)), "events")
		})
	}
}

// What a server does at its start when its projection is up to date.
func BenchmarkHistoryLoad(b *testing.B) {
	s, _ := longHistory(b)
	l, n := newLaps(b), 0
	for b.Loop() {
		l.time(func() error {
			all, _, _, err := s.Load(b.Context())
			n = len(all)
			return err
		})
	}
	l.report()
	b.ReportMetric(float64(n), "objects")
}
