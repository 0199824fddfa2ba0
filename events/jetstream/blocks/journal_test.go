package blocks_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/jetstream/intent"
	"github.com/reprise-run/reprise/events/logtest"
)

// What a crash takes of the blocks is read from the journal, by an auditor and by who
// follows the files.
func TestTornBlocks(t *testing.T) {
	live := t.TempDir()
	log, stop := serve(t, jetstream.ServerOptions{Dir: live})
	defer stop()
	all := fill(t, log, 9000)
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
			logtest.Holds(t, open(t, dir).Log(uint64(len(all))), all)
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
