package jetstream

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events/jetstream/blockfile"
)

// fill appends until the log has more than two blocks.
func fill(t *testing.T, l *Log) {
	t.Helper()
	var chain [32]byte
	for last := uint64(0); ; {
		blocks, err := blockfile.List(l.own.msgs)
		if err != nil {
			t.Fatal(err)
		}
		if len(blocks) > 2 {
			return
		}
		next := decision(&chain, last, 50)
		for i := range next {
			next[i].Note = make([]byte, 40_000)
		}
		if last, err = l.Append(t.Context(), last, next); err != nil {
			t.Fatal(err)
		}
	}
}

// The journal is not forgotten while the stream's files lack something that it has.
func TestBlocksWithAGapAreNotTakenForWhole(t *testing.T) {
	for name, at := range map[string]int64{"content": 2000, "length": 3} {
		t.Run(name, func(t *testing.T) {
			// The journal holds all, so that nothing is hardened beside.
			l := mustOpen(t, ServerOptions{Dir: t.TempDir(), Journal: 256 << 20})
			l.own.quiet = time.Hour
			fill(t, l)
			// The block may be replaced by its compressed form by now.
			l.own.blocks.mu.Lock()
			first := l.own.blocks.files[0]
			l.own.blocks.mu.Unlock()
			file, err := os.OpenFile(fmt.Sprint("/proc/self/fd/", first.file.Fd()), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			if _, err := file.WriteAt([]byte{0x7f}, at); err != nil {
				t.Fatal(err)
			}
			if err := l.own.harden(t.Context(), l.own.last); err == nil || l.own.server.Err() == nil {
				t.Errorf("hardened with %v, and the server says %v", err, l.own.server.Err())
			} else {
				t.Log(err)
			}
		})
	}
}

// JetStream does not tell that it could not write before something else is appended.
func TestWhatIsNeverWrittenFailsTheServer(t *testing.T) {
	l := openNew(t)
	l.own.quiet = time.Hour
	var chain [32]byte
	appendTo(t, l, nil, decision(&chain, 0, 3))
	l.own.overdue = time.Millisecond
	if err := l.own.harden(context.Background(), 4); err == nil || l.own.server.Err() == nil {
		t.Errorf("hardened with %v, and the server says %v", err, l.own.server.Err())
	} else {
		t.Log(err)
	}
}

// A record may be larger than what is read of a block at once.
func TestLargeRecordsAreHardened(t *testing.T) {
	l := openNew(t)
	l.own.quiet = time.Hour
	var chain [32]byte
	batch := decision(&chain, 0, 6)
	for i, size := range []int{10, 255 << 10, 300 << 10, 10, 700 << 10, 10} {
		batch[i].Note = make([]byte, size)
	}
	last, err := l.Append(t.Context(), 0, batch)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.own.harden(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	if b := l.own.blocks.files[0]; !l.own.blocks.has(last) || b.read < 1<<20 {
		t.Errorf("event %d is on disk: %v, and %d bytes of the block were read", last, l.own.blocks.has(last), b.read)
	}
}
