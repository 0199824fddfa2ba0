package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/archive"
	"github.com/reprise-run/reprise/events/jetstream/intent"
	"github.com/reprise-run/reprise/projections/history"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/projections/pebble"
	"github.com/reprise-run/reprise/schemas/schematest"
)

// TestExportReadsFilesAndLog exports while the log's files are whole, cut, and gone:
// what the files lack comes from the log.
func TestExportReadsFilesAndLog(t *testing.T) {
	d := newDataDir(t)
	d.run(120, func(_ *live.Live, store *pebble.Store) {
		for name, spoil := range map[string]func(dir string){
			"whole": func(string) {},
			"cut": func(dir string) {
				for _, path := range intent.Paths(dir, "REPRISE") {
					if err := os.Remove(path); err != nil {
						t.Fatal(err)
					}
				}
				found, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "REPRISE", "msgs", "*.blk"))
				if err != nil || len(found) == 0 {
					t.Fatalf("no blocks (%v)", err)
				}
				rewriteFile(t, found[len(found)-1], func(b []byte) []byte { return b[:len(b)*2/3] })
			},
			"gone": func(dir string) {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			},
		} {
			dir := copied(t, d.env.LogDir())
			spoil(dir)
			read := &follows{Log: eventsOf(t, store)}
			var file bytes.Buffer
			if err := exporting(onFiles{read, dir}, store, nil, nil)(t.Context(), historian.ExportRange{}, &file); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			h, _, err := archive.Check(&file, nil)
			if err != nil || h.To != store.Folded() {
				t.Errorf("%s: the archive ends with %d: %v", name, h.To, err)
			}
			if asked := read.from; (name == "whole") != (asked == 0) || name == "cut" && asked < 10 || name == "gone" && asked != 1 {
				t.Errorf("%s: the log was read from event %d", name, asked)
			}
		}
	})
}

// follows notes from where a log was followed.
type follows struct {
	events.Log
	from uint64
}

func (f *follows) Follow(ctx context.Context, from uint64) (events.Reader, error) {
	f.from = from
	return f.Log.Follow(ctx, from)
}

// eventsOf is a log in memory of all that a projection has folded.
func eventsOf(t *testing.T, store *pebble.Store) events.Log {
	t.Helper()
	log := schematest.NewLog(t)
	var batch []events.Event
	for e, err := range store.Events(t.Context(), history.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if batch = append(batch, e); e.More {
			continue
		}
		if _, err := log.Append(t.Context(), batch[0].Sequence-1, batch); err != nil {
			t.Fatal(err)
		}
		batch = nil
	}
	return log
}
