package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/events/archive"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/projections/pebble"
)

// BenchmarkExport exports logs of realistic events as `reprise export` does: a server
// reads its log, compresses and answers over NATS, and a client checks what comes. All
// is in one process here. MB/s are of the events' bytes before compression.
func BenchmarkExport(b *testing.B) {
	for _, n := range []uint64{100_000, 1_000_000} {
		if testing.Short() && n > 100_000 {
			b.Logf("%d events take minutes to write; run without -short", n)
			continue
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmarkExport(b, n) })
	}
}

func benchmarkExport(b *testing.B, n uint64) {
	check := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	env := &environment{DataDir: benchDir(b, n)}
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: env.LogDir(), Listen: "127.0.0.1:0"})
	check(err)
	defer server.Shutdown()
	nc, err := server.Connect()
	check(err)
	defer nc.Close()
	log, err := jetstream.History(b.Context(), nc, jetstream.Config{})
	check(err)
	store, err := pebble.Open(env.ProjectionDir(), pebble.Options{Log: slog.New(slog.DiscardHandler)})
	check(err)
	defer store.Close()
	stop, err := historian.Serve(nc, subjectPrefix, historian.Source{Reader: store, Export: exporting(onFiles{log, env.LogDir()}, store, nil, nil)})
	check(err)
	defer stop()
	client := historian.NewClient(nc, subjectPrefix)
	o := &exportOptions{environment: &environment{Main: &Main{Stderr: io.Discard}}}
	var raw, packed uint64
	before := spent(b)
	for b.Loop() {
		var footer archive.Footer
		_, footer, packed, err = o.copy(context.Background(), client.Export, historian.ExportRange{}, io.Discard)
		check(err)
		raw = footer.Raw
	}
	b.SetBytes(int64(raw))
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(packed)/1e6*float64(b.N)/b.Elapsed().Seconds(), "packed-MB/s")
	b.ReportMetric(float64(raw)/float64(packed), "compression")
	b.ReportMetric(float64(raw)*float64(b.N)/1e6/(float64(spent(b)-before)/1e9), "MB/cpu-s")
}
