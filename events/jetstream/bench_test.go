package jetstream_test

import (
	"testing"

	"github.com/reprise-run/reprise/events/jetstream"
)

func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		name string
		size int
	}{{"one", 1}, {"six", 6}, {"batch of 256", 256}} {
		b.Run(c.name, func(b *testing.B) {
			log := openLog(b, start(b, jetstream.ServerOptions{Dir: b.TempDir()}), false)
			last := uint64(0)
			batch := some(1, c.size)
			for b.Loop() {
				var err error
				if last, err = log.Append(b.Context(), last, batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(last)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func BenchmarkFollow(b *testing.B) {
	const total = 50_000
	log := openLog(b, start(b, jetstream.ServerOptions{Dir: b.TempDir()}), false)
	for last := uint64(0); last < total; {
		var err error
		if last, err = log.Append(b.Context(), last, some(last+1, 500)); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		r, err := log.Follow(b.Context(), 1)
		if err != nil {
			b.Fatal(err)
		}
		for n := 0; n < total; {
			got, err := r.Next(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			n += len(got)
		}
		r.Close()
	}
	b.ReportMetric(float64(total*b.N)/b.Elapsed().Seconds(), "events/s")
}
