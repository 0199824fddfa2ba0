package blocks_test

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"testing"

	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/jetstream/blocks"
)

// Beside a running server, the log is the same read from its files, from whatever
// event on, whatever is wrong with a file, and goes on with what is appended.
func TestReadAhead(t *testing.T) {
	dir := t.TempDir()
	log, stop := serve(t, jetstream.ServerOptions{Dir: dir, UnsafeNoSync: true})
	defer stop()
	const n = 20_000
	all := fill(t, log, n)
	last := uint64(len(all))
	ahead := blocks.ReadAhead(log, dir, "")
	read := func(t *testing.T, from uint64) {
		r, err := ahead.Follow(t.Context(), from)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for from <= last {
			batch, err := r.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if batch[len(batch)-1].More {
				t.Fatalf("event %d ends a batch and not its decision", batch[len(batch)-1].Sequence)
			}
			for i := range batch {
				if !reflect.DeepEqual(batch[i], all[from-1]) {
					t.Fatalf("event %d is read as\n%s\nand was\n%s", from, batch[i].Text(), all[from-1].Text())
				}
				from++
			}
		}
	}
	for from := uint64(1); from < last; from += 3331 {
		for from > 1 && all[from-2].More {
			from++
		}
		t.Run(fmt.Sprint("from ", from), func(t *testing.T) { read(t, from) })
	}
	path := blockFiles(t, dir)[1]
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func([]byte) []byte{
		"cut":     func(b []byte) []byte { return b[:len(b)/2] },
		"flipped": func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
		"empty":   func([]byte) []byte { return nil },
		"long":    func(b []byte) []byte { return append(b, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			// In a copy, for the server's own must stay as they are.
			other := copied(t, dir)
			put(t, blockFiles(t, other)[1], spoil(bytes.Clone(whole)))
			ahead = blocks.ReadAhead(log, other, "")
			read(t, 1)
		})
	}
	t.Run("no directory", func(t *testing.T) {
		ahead = blocks.ReadAhead(log, t.TempDir(), "")
		read(t, 1)
	})
}

// copied returns a copy of a directory.
func copied(t *testing.T, dir string) string {
	t.Helper()
	other := t.TempDir()
	if err := os.CopyFS(other, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return other
}
