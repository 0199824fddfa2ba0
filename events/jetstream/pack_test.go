package jetstream

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream/blockfile"
)

// blocksOf are the contents of the blocks in a directory, in order.
func blocksOf(t *testing.T, dir string) (all [][]byte) {
	t.Helper()
	files, err := blockfile.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		content, err := os.ReadFile(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, content)
	}
	return all
}

// expectPacked checks that all blocks but the last are compressed, and what they were.
func expectPacked(t *testing.T, dir string, before [][]byte) {
	t.Helper()
	after := blocksOf(t, dir)
	if len(after) != len(before) || len(after) < 4 {
		t.Fatalf("there are %d blocks, and were %d", len(after), len(before))
	}
	for i, content := range after {
		if want := i < len(after)-1; blockfile.Compressed(content) != want {
			t.Errorf("of %d blocks, block %d is compressed: %v", len(after), i+1, !want)
		}
		was, _ := blockfile.Decompress(before[i])
		if raw, reason := blockfile.Decompress(content); reason != "" || !bytes.Equal(raw, was) {
			t.Errorf("block %d is not what it was: %s", i+1, reason)
		}
	}
}

// large is a decision of about half a megabyte, half of which is noise.
func large(chain *[32]byte, after uint64) []events.Event {
	next := decision(chain, after, 20)
	noise := rand.NewChaCha8([32]byte{byte(after), byte(after >> 8)})
	for i := range next {
		note := make([]byte, 25_000)
		noise.Read(note[:len(note)/2])
		next[i].Note = note
	}
	return next
}

// until appends large decisions until there are so many blocks.
func until(t *testing.T, l *Log, dir string, blocks int) (last uint64) {
	t.Helper()
	var chain [32]byte
	last, err := l.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for {
		files, err := blockfile.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(files) >= blocks {
			return last
		}
		if last, err = l.Append(t.Context(), last, large(&chain, last)); err != nil {
			t.Fatal(err)
		}
	}
}

// pack has all be on disk, and compressed what may be.
func pack(t *testing.T, l *Log, last uint64) {
	t.Helper()
	if err := l.own.harden(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	l.own.packer.pack(l.own.blocks.through())
}

// expectRead checks that each event up to one is there.
func expectRead(t *testing.T, l *Log, first, last uint64) {
	t.Helper()
	if end, err := l.Last(t.Context()); err != nil || end != last {
		t.Errorf("the log ends at %d, %v; want %d", end, err, last)
	}
	for i := first; i <= last; i++ {
		if e, err := l.Get(t.Context(), i); err != nil || len(e.Note) != 25_000 {
			t.Fatalf("event %d, %v, has a note of %d bytes", i, err, len(e.Note))
		}
	}
}

// JetStream reads blocks that were compressed beside it, at once and at its next start. What
// was left is compressed then.
func TestFullBlocksAreCompressedBesideJetStream(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, ServerOptions{Dir: dir, Journal: 256 << 20})
	l.own.quiet = time.Hour
	msgs := l.own.msgs
	last := until(t, l, msgs, 5)
	if err := l.own.harden(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	plain := blocksOf(t, msgs)
	pack(t, l, last)
	expectPacked(t, msgs, plain)
	expectRead(t, l, 1, last)
	l.own.server.Shutdown()

	left := filepath.Join(msgs, ".4.blk.new") // of a crash
	if err := os.WriteFile(left, []byte("cmp"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, block := range []string{"3.blk", "4.blk"} {
		if err := unpack(filepath.Join(msgs, block)); err != nil {
			t.Fatal(err)
		}
	}
	l = mustOpen(t, ServerOptions{Dir: dir, Journal: 256 << 20})
	l.own.quiet = time.Hour
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("what a crash has left is still there, %v", err)
	}
	expectRead(t, l, 1, last)
	last = until(t, l, msgs, 6)
	if err := l.own.harden(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	plain = blocksOf(t, msgs)
	pack(t, l, last)
	expectPacked(t, msgs, plain)
	expectRead(t, l, 1, last)
}

// A stream that JetStream compressed, as the version before had it do, is compressed by us
// from the next start on.
func TestJetStreamNoLongerCompresses(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, ServerOptions{Dir: dir})
	config := l.stream.CachedInfo().Config
	config.Compression = 1 // S2
	if _, err := l.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	l.own.server.Shutdown()
	l = mustOpen(t, ServerOptions{Dir: dir})
	last := until(t, l, l.own.msgs, 4)
	expectRead(t, l, 1, last)
	l.own.server.Shutdown()
	l = mustOpen(t, ServerOptions{Dir: dir})
	if got := l.stream.CachedInfo().Config.Compression; got != 0 {
		t.Errorf("the stream's compression is %v", got)
	}
	last = until(t, l, l.own.msgs, 5)
	pack(t, l, last)
	expectRead(t, l, 1, last)
}

// What cannot be compressed stays as it is, and is compressed later.
func TestWhatCannotBeCompressedStays(t *testing.T) {
	l := mustOpen(t, ServerOptions{Dir: t.TempDir(), Journal: 256 << 20})
	l.own.quiet = time.Hour
	last := until(t, l, l.own.msgs, 4)
	if err := l.own.harden(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	plain := blocksOf(t, l.own.msgs)
	// The file that is to replace the second block cannot be made.
	inTheWay := filepath.Join(l.own.msgs, ".2.blk.new")
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	l.own.packer.pack(l.own.blocks.through())
	for i, content := range blocksOf(t, l.own.msgs) {
		if blockfile.Compressed(content) != (i == 0) {
			t.Errorf("block %d is compressed: %v", i+1, i != 0)
		}
	}
	expectRead(t, l, 1, last)
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	l.own.packer.pack(l.own.blocks.through())
	expectPacked(t, l.own.msgs, plain)
}

// A block that cannot be read does not hold up those behind it.
func TestWhatCannotBeReadHoldsUpNothing(t *testing.T) {
	l := mustOpen(t, ServerOptions{Dir: t.TempDir(), Journal: 256 << 20})
	l.own.quiet = time.Hour
	last := until(t, l, l.own.msgs, 4)
	if err := l.own.harden(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(l.own.msgs, "2.blk"), 5); err != nil {
		t.Fatal(err)
	}
	l.own.packer.pack(l.own.blocks.through())
	for i, content := range blocksOf(t, l.own.msgs) {
		if want := i == 0 || i == 2; blockfile.Compressed(content) != want {
			t.Errorf("block %d is compressed: %v", i+1, !want)
		}
	}
}

// openVolatile starts a server on a directory and opens its volatile log.
func openVolatile(t *testing.T, dir string, age time.Duration) *Log {
	t.Helper()
	_, nc := startIn(t, dir)
	l, err := Volatile(t.Context(), nc, Config{VolatileAge: age})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// What ages away is compressed too. If a block is compressed while JetStream drops it, that is
// as if it had not been.
func TestVolatileBlocksAreCompressed(t *testing.T) {
	dir := t.TempDir()
	l := openVolatile(t, dir, time.Hour)
	p := l.packer
	last := until(t, l, p.dir, 5)
	p.server.background.Wait()
	for i, content := range blocksOf(t, p.dir)[:3] {
		if !blockfile.Compressed(content) {
			t.Errorf("block %d is not compressed", i+1)
		}
	}
	expectRead(t, l, 1, last)
	first, err := os.ReadFile(filepath.Join(p.dir, "1.blk"))
	if err != nil {
		t.Fatal(err)
	}
	p.server.Shutdown()

	l = openVolatile(t, dir, time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for from := uint64(0); from <= last; <-tick.C {
		if from, err = l.First(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(p.dir, "1.blk")); !os.IsNotExist(err) {
		t.Fatalf("the first block is still there, %v", err)
	}
	l.packer.server.Shutdown()
	if err := os.WriteFile(filepath.Join(p.dir, "1.blk"), first, 0o640); err != nil {
		t.Fatal(err)
	}
	l = openVolatile(t, dir, time.Second)
	if from, err := l.First(t.Context()); err != nil || from != last+1 {
		t.Errorf("the log begins at %d, %v; want %d", from, err, last+1)
	}
	var chain [32]byte
	if end, err := l.Append(t.Context(), last, large(&chain, last)); err != nil || end != last+20 {
		t.Errorf("an append ends at %d, %v", end, err)
	}
}

func TestCompressTakesWhatIsNoBlock(t *testing.T) {
	for _, size := range []int{0, 7, 8, 9, 300_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			content := bytes.Repeat([]byte("reprise"), size/7+1)[:size]
			var to bytes.Buffer
			err := blockfile.Compress(&to, bytes.NewReader(content), int64(size))
			if size < blockfile.Check {
				if err == nil {
					t.Error("less than a checksum was compressed")
				}
				return
			}
			if raw, reason := blockfile.Decompress(to.Bytes()); err != nil || reason != "" || !bytes.Equal(raw, content) {
				t.Errorf("it came back as %d bytes, %v, %s", len(raw), err, reason)
			}
		})
	}
}
