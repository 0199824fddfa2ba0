package archivist_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/reprise-run/reprise/agents/archivist"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/archive"
	"github.com/reprise-run/reprise/events/memlog"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/projections/pebble"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// recorded is a log of n events, and what archives are made of it with.
func recorded(t testing.TB, n int) ([]events.Event, archivist.Source) {
	t.Helper()
	h := projectionstest.Random(5, n)
	log := memlog.New()
	for batch := h.Events; len(batch) > 0; {
		n := min(len(batch), 900)
		for n < len(batch) && batch[n-1].More {
			n++
		}
		if _, err := log.Append(t.Context(), batch[0].Sequence-1, batch[:n]); err != nil {
			t.Fatal(err)
		}
		batch = batch[n:]
	}
	store := open(t)
	l, err := live.Start(t.Context(), log, live.Options{Store: store, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return h.Events, archivist.Source{Log: log, Reader: store, Program: "v1", Now: func() time.Time { return projectionstest.Epoch }}
}

func open(t testing.TB) *pebble.Store {
	t.Helper()
	store, err := pebble.Open("p", pebble.Options{FS: vfs.NewMem(), Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func TestWrite(t *testing.T) {
	all, source := recorded(t, 2000)
	for _, want := range [][2]uint64{{0, 0}, {1, 700}, {700, 1500}, {1990, 0}} {
		var file bytes.Buffer
		if err := source.Write(t.Context(), &file, want[0], want[1]); err != nil {
			t.Fatal(err)
		}
		h, footer, err := archive.Check(&file, nil)
		if err != nil {
			t.Fatal(err)
		}
		from, to := max(want[0], 1), want[1]
		if to == 0 {
			to = 2000
		}
		if h.From > from || from-h.From > 10 || h.To < to || h.To-to > 10 || all[h.To-1].More || h.From > 1 && all[h.From-2].More {
			t.Errorf("%d to %d became %d to %d", from, to, h.From, h.To)
		}
		if footer.Chain != all[h.To-1].Chain || (h.Snapshot == nil) != (h.From == 1) || h.Program != "v1" {
			t.Errorf("%d to %d: %+v, %+v", from, to, h, footer)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	_, source := recorded(t, 200)
	for want, r := range map[string][2]uint64{
		"no event 201 yet: the log ends at 200": {1, 201},
		"would be empty":                        {50, 40},
	} {
		if err := source.Write(t.Context(), io.Discard, r[0], r[1]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", r, err, want)
		}
	}
	_, nothing := recorded(t, 0)
	if err := nothing.Write(t.Context(), io.Discard, 0, 0); err == nil || !strings.Contains(err.Error(), "the log is empty") {
		t.Errorf("of an empty log: %v", err)
	}
	damaged := source
	damaged.Log = altered{source.Log, 120}
	err := damaged.Write(t.Context(), io.Discard, 0, 0)
	if err == nil || !strings.Contains(err.Error(), "tampered with at sequence 120") || !strings.Contains(err.Error(), "--to @119") {
		t.Errorf("of a damaged log: %v", err)
	}
}

// altered is a log in which one event is not what was appended.
type altered struct {
	events.Log
	sequence uint64
}

func (a altered) Follow(ctx context.Context, from uint64) (events.Reader, error) {
	r, err := a.Log.Follow(ctx, from)
	return alteredReader{r, a.sequence}, err
}

type alteredReader struct {
	events.Reader
	sequence uint64
}

func (a alteredReader) Next(ctx context.Context) ([]events.Event, error) {
	batch, err := a.Reader.Next(ctx)
	for i := range batch {
		if batch[i].Sequence == a.sequence {
			batch[i].User = "eve"
		}
	}
	return batch, err
}
