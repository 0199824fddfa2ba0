package blocks_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/eventsgen"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/jetstream/blocks"
	"github.com/reprise-run/reprise/events/jetstream/intent"
)

// What a crash takes of the blocks is read from the journal, by an auditor and by who
// follows the files.
func TestTornBlocks(t *testing.T) {
	live := t.TempDir()
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: live})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	log, err := jetstream.History(t.Context(), nc, jetstream.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var all []events.Event
	for batch := range eventsgen.New(eventsgen.Options{Seed: 1, Events: 9000}).Batches(200) {
		if _, err := log.Append(t.Context(), uint64(len(all)), batch); err != nil {
			t.Fatal(err)
		}
		all = append(all, batch...)
	}
	held := holding(t, all)
	for name, spoil := range map[string]func(dir string){
		"as it is": func(string) {},
		"a middle that was not written": func(dir string) {
			files := blockFiles(t, dir)
			content, err := os.ReadFile(files[len(files)-1])
			if err != nil || len(files) < 2 {
				t.Fatal(len(files), err)
			}
			clear(content[4096:8192])
			put(t, files[len(files)-1], content)
		},
		"an end that was not written": func(dir string) {
			files := blockFiles(t, dir)
			if err := os.Truncate(files[len(files)-1], 5000); err != nil {
				t.Fatal(err)
			}
		},
		"an end without its block": func(dir string) {
			files := blockFiles(t, dir)
			if err := os.Remove(files[len(files)-1]); err != nil {
				t.Fatal(err)
			}
		},
		"a beginning without its block": func(dir string) {
			if err := os.Remove(blockFiles(t, dir)[0]); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "crashed")
			if err := os.CopyFS(dir, os.DirFS(live)); err != nil {
				t.Fatal(err)
			}
			spoil(dir)
			if r := audit(t, dir, held); r.Finding != nil {
				t.Errorf("found: %+v", r)
			} else {
				t.Log(r.Remark)
			}
			followAll(t, dir, all)
			for _, path := range intent.Paths(dir, "REPRISE") {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			if r := audit(t, dir, held); r.Finding == nil && name != "as it is" {
				t.Errorf("without the journal nothing is found: %+v", r)
			}
		})
	}
}

// followAll reads a log from its files.
func followAll(t *testing.T, dir string, want []events.Event) {
	t.Helper()
	stream, err := blocks.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := stream.Log(uint64(len(want))).Follow(context.Background(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(want); {
		got, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range got {
			if e.Sequence != uint64(n)+1 || e.Chain != want[n].Chain {
				t.Fatalf("event %d is another", n+1)
			}
			n++
		}
	}
}
