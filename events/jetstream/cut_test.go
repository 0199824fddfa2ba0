package jetstream

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream/blockfile"
	"github.com/reprise-run/reprise/events/jetstream/intent"
	"github.com/reprise-run/reprise/events/logtest"
)

// A power cut takes any sectors of what was not synced. The journal was.
func TestPowerCuts(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	l := mustOpen(t, ServerOptions{Dir: t.TempDir(), Journal: 1 << 20})
	var chain [32]byte
	var all []events.Event
	for round := range 16 {
		for range 1 + random.IntN(8) {
			next := decision(&chain, uint64(len(all)), 1+random.IntN(40))
			chain = [32]byte{}
			if len(all) > 0 {
				chain = all[len(all)-1].Chain
			}
			for i := range next {
				next[i].Note = fmt.Appendf(nil, "%x", random.Perm(random.IntN(3000)))
				chain = events.Link(chain, &next[i])
				next[i].Chain = chain
			}
			all = appendTo(t, l, all, next)
		}
		dir := crashed(t, l)
		tear(t, dir, random)
		after := mustOpen(t, ServerOptions{Dir: dir, Journal: 1 << 20})
		expectChain(t, after, all)
		after.own.server.Shutdown()
		if round%4 == 3 { // and on with what was made whole
			l.own.server.Shutdown()
			l = mustOpen(t, ServerOptions{Dir: dir, Journal: 1 << 20})
			expectChain(t, l, all)
		}
	}
	if len(all) < 500 {
		t.Errorf("only %d events", len(all))
	}
}

// What the journal does not have is not cut off.
func TestBlocksAreNotCutBeyondTheJournal(t *testing.T) {
	l := openNew(t)
	l.own.quiet = time.Hour
	var chain [32]byte
	all := appendTo(t, l, nil, decision(&chain, 0, 3))
	appendTo(t, l, all, decision(&chain, 3, 3))
	if err := l.own.harden(t.Context(), 6); err != nil {
		t.Fatal(err)
	}
	dir := crashed(t, l)
	spoil(t, dir, 2, []byte("xx")) // the journal ends with the first decision
	path := filepath.Join(dir, "jetstream", "$G", "streams", "REPRISE", "msgs", "1.blk")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[60] ^= 1
	if err := os.WriteFile(path, content, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := openOn(t, ServerOptions{Dir: dir}); !errors.Is(err, events.ErrDamaged) {
		t.Errorf("it is opened with %v", err)
	} else {
		t.Log(err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, content) {
		t.Errorf("the block has been changed, %v", err)
	}
}

// expectChain checks that the log has the events, and follows them to the last.
func expectChain(t *testing.T, l *Log, want []events.Event) {
	t.Helper()
	if last, err := l.Last(t.Context()); err != nil || last != uint64(len(want)) {
		t.Fatalf("the log ends at %d, %v; want %d", last, err, len(want))
	}
	logtest.Holds(t, l, want)
}

// tear takes from a stream's blocks some of what was not synced: all behind the event at
// which the journal begins.
func tear(t *testing.T, dir string, random *rand.Rand) {
	t.Helper()
	journal, err := intent.Read(dir, "REPRISE")
	if err != nil {
		t.Fatal(err)
	}
	msgs := filepath.Join(dir, "jetstream", "$G", "streams", "REPRISE", "msgs")
	for _, b := range unsynced(t, msgs, journal) {
		content, err := os.ReadFile(b.path)
		if err != nil {
			t.Fatal(err)
		}
		switch random.IntN(5) {
		case 0: // nothing is lost
		case 1:
			content = content[:b.from+random.IntN(len(content)-b.from+1)]
		case 2:
			clear(content[b.from:])
		case 3:
			for at := b.from; at < len(content); at = (at/512 + 1) * 512 {
				if random.IntN(4) == 0 {
					clear(content[at:min((at/512+1)*512, len(content))])
				}
			}
		case 4:
			if b.from == 0 {
				if err := os.Remove(b.path); err != nil {
					t.Fatal(err)
				}
				continue
			}
		}
		if err := os.WriteFile(b.path, content, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if random.IntN(2) == 0 {
		if err := os.Remove(filepath.Join(msgs, "index.db")); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}

// tearable is a block of which all from an offset on was not synced.
type tearable struct {
	path string
	from int
}

// unsynced are the blocks that have events of the journal. One that is compressed was
// synced before it replaced what it was made of.
func unsynced(t *testing.T, msgs string, journal []intent.Record) (all []tearable) {
	t.Helper()
	blocks, err := blockfile.List(msgs)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		content, err := os.ReadFile(b.Path)
		if err != nil {
			t.Fatal(err)
		}
		if blockfile.Compressed(content) || len(journal) == 0 {
			continue
		}
		from := 0
		for check := blockfile.Checksum("REPRISE", b.Index); ; {
			r, reason := blockfile.Parse(content[from:], check)
			if reason != "" || r.Sequence > journal[0].After {
				break
			}
			from += r.Size
		}
		all = append(all, tearable{b.Path, from})
	}
	return all
}
