package pebble_test

import (
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/eventsgen"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/jetstream/blocks"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/projections/pebble"
)

// Folding events that lie in memory: as a log is followed, and as a long one is built;
// into objects alone, and with the durable projection.
func BenchmarkRebuild(b *testing.B) {
	var log [][]events.Event
	n := 0
	for batch := range eventsgen.New(eventsgen.Options{Seed: 1, Events: min(*length, 200_000)}).Batches(250) {
		log = append(log, batch)
		n += len(batch)
	}
	for _, way := range []struct {
		name    string
		rebuild func(*testing.B, [][]events.Event, *pebble.Store)
		durable bool
	}{
		{"followed-memory", follow, false}, {"followed-durable", follow, true},
		{"built-memory", build, false}, {"built-durable", build, true},
	} {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			start := processor(b)
			for b.Loop() {
				if !way.durable {
					way.rebuild(b, log, nil)
					continue
				}
				s, err := pebble.Open(b.TempDir(), pebble.Options{Log: quiet})
				if err != nil {
					b.Fatal(err)
				}
				way.rebuild(b, log, s)
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
			perSecond(b, n*b.N)
			b.ReportMetric((processor(b)-start).Seconds()*1e6/float64(n*b.N), "cpu-us/event")
		})
	}
}

func follow(b *testing.B, log [][]events.Event, s *pebble.Store) {
	state := projections.NewState()
	for _, batch := range log {
		changes, err := state.Fold(batch)
		if err == nil && s != nil {
			err = s.Commit(batch, changes)
		}
		if err != nil {
			b.Fatal(err)
		}
		state.View()
	}
}

func build(b *testing.B, log [][]events.Event, s *pebble.Store) {
	builder := projections.NewBuilder(nil, 0)
	for _, batch := range log {
		outcomes, err := builder.Fold(batch)
		if err == nil && s != nil {
			err = s.Fill(batch, outcomes)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	builder.State()
}

func perSecond(b *testing.B, n int) { b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s") }

// What a server does at its start when it has no projection: it reads the log, from
// JetStream or from its files, checks the chain, folds, and stores.
func BenchmarkRebuildFromJetStream(b *testing.B) {
	dir := b.TempDir()
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir, UnsafeNoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Shutdown()
	nc, err := server.Connect()
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	log, err := jetstream.History(b.Context(), nc, jetstream.Config{})
	if err != nil {
		b.Fatal(err)
	}
	last := uint64(0)
	for batch := range generator().Batches(900) {
		if last, err = log.Append(b.Context(), last, batch); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("messages", func(b *testing.B) { start(b, log, last) })
	b.Run("files", func(b *testing.B) { start(b, blocks.ReadAhead(log, dir, ""), last) })
}

// start folds a log as a server does at its start.
func start(b *testing.B, log events.Log, last uint64) {
	before := heap()
	start := processor(b)
	for b.Loop() {
		s, err := pebble.Open(b.TempDir(), pebble.Options{Log: quiet})
		if err != nil {
			b.Fatal(err)
		}
		l, err := live.Start(b.Context(), log, live.Options{Store: s, Log: quiet})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		b.ReportMetric(heap()-before, "heap-MB")
		b.StartTimer()
		l.Close()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	perSecond(b, int(last)*b.N)
	b.ReportMetric((processor(b)-start).Seconds()*1e6/float64(int(last)*b.N), "cpu-us/event")
	b.ReportMetric(peak(b), "peak-MB")
}
