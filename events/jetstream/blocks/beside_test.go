package blocks_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/eventsgen"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/jetstream/blockfile"
	"github.com/reprise-run/reprise/events/jetstream/blocks"
	"github.com/reprise-run/reprise/events/jetstream/intent"
	"github.com/reprise-run/reprise/events/proof"
)

// auditBeside audits the log of a server that runs. Of an intact one it waits as long as
// in production, of one that is damaged not.
func auditBeside(t testing.TB, dir string, damaged bool, held ...proof.Held) (blocks.Result, uint64) {
	t.Helper()
	s, err := blocks.OpenBeside(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if damaged {
		s.Hurry(time.Millisecond, 20*time.Millisecond)
	}
	a := proof.NewAudit(held)
	r, err := s.Audit(t.Context(), a, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r, a.Taken()
}

// Whatever the server is doing, an intact log is not accused, and is read as far as it was
// acknowledged before: blocks roll over and are compressed, the journal turns, appends are
// of one event and of many.
func TestAWriterIsNeverAccused(t *testing.T) {
	for _, journal := range []int64{64 << 10, 4 << 20, 0} {
		t.Run(fmt.Sprint(journal), func(t *testing.T) {
			dir := t.TempDir()
			log, stop := serve(t, jetstream.ServerOptions{Dir: dir, UnsafeNoSync: true, Journal: journal})
			defer stop()
			acknowledged, written := make(chan proof.Held), make(chan error, 1)
			go func() { written <- writeOn(t, log, 30_000, acknowledged) }()
			audits := 0
			for held := range acknowledged {
				r, taken := auditBeside(t, dir, false, held)
				if r.Finding != nil || r.Remark != "" || r.Newer != nil || taken < held.Size {
					t.Fatalf("audit %d, after event %d, took %d events: %+v", audits, held.Size, taken, r)
				}
				audits++
			}
			if err := <-written; err != nil {
				t.Fatal(err)
			}
			if n := len(blockFiles(t, dir)); n < 4 || audits < 5 {
				t.Errorf("%d audits of %d blocks are too few", audits, n)
			}
			t.Logf("%d audits", audits)
		})
	}
}

// writeOn appends events without a pause, and offers a checkpoint of what was acknowledged
// to whoever audits. Eight times it waits until one is taken, and goes on beside the audit, so
// that no audit is missed on a machine that is busy.
func writeOn(t *testing.T, log events.Log, n uint64, acknowledged chan<- proof.Held) error {
	defer close(acknowledged)
	waited := uint64(0)
	var tree proof.Tree
	random := rand.New(rand.NewPCG(1, 1))
	g := eventsgen.New(eventsgen.Options{Seed: 1, Events: n})
	for {
		var batch []events.Event
		for want := 1 + random.IntN(2)*random.IntN(300); len(batch) < want || batch[len(batch)-1].More; {
			e, ok := g.Next()
			if !ok {
				break
			}
			batch = append(batch, e)
		}
		if len(batch) == 0 {
			return nil
		}
		if _, err := log.Append(t.Context(), batch[0].Sequence-1, batch); err != nil {
			return err
		}
		if err := tree.Take(batch); err != nil {
			return err
		}
		held := proof.Held{Checkpoint: tree.Checkpoint("x", time.Time{}), From: "of the auditor"}
		if 8*held.Size/n > waited {
			waited++
			select {
			case acknowledged <- held:
			case <-t.Context().Done():
				return t.Context().Err()
			}
			continue
		}
		select {
		case acknowledged <- held:
		default:
		}
	}
}

// atRest is the directory of a running server to which nobody appends, with its log: three
// blocks, of which the journal has the newest, and more of it in its older file. They are
// small, because they are read hundreds of times.
func atRest(t *testing.T, n uint64) (dir string, all []events.Event) {
	t.Helper()
	dir = t.TempDir()
	log, stop := serve(t, jetstream.ServerOptions{Dir: dir, UnsafeNoSync: true, Journal: 128 << 10})
	t.Cleanup(stop)
	for batch := range eventsgen.New(eventsgen.Options{Seed: 1, Events: n}).Batches(20) {
		if _, err := log.Append(t.Context(), uint64(len(all)), batch); err != nil {
			t.Fatal(err)
		}
		all = append(all, batch...)
	}
	intact := func() {
		t.Helper()
		if r, taken := auditBeside(t, dir, false, holding(t, all)); r.Finding != nil || r.Remark != "" || taken != uint64(len(all)) {
			t.Fatalf("an intact log: %d events, %+v", taken, r)
		}
	}
	intact() // and the blocks have what the journal has
	divide(t, blockFiles(t, dir)[0], 3)
	intact()
	return dir, all
}

// divide makes so many blocks of the first, as JetStream does if they are large: all but
// the last compressed.
func divide(t *testing.T, path string, blocks int) {
	t.Helper()
	records := split(content(t, path))
	for n := range blocks {
		part := records[n*len(records)/blocks : (n+1)*len(records)/blocks]
		for i := range part {
			resealIn(n+1, part, i)
		}
		whole := bytes.Join(part, nil)
		if n < blocks-1 {
			whole = compressed(t, whole)
		}
		put(t, filepath.Join(filepath.Dir(path), fmt.Sprintf("%d.blk", n+1)), whole)
	}
}

// compressed is a block as JetStream compresses it.
func compressed(t *testing.T, plain []byte) []byte {
	t.Helper()
	info := server.CompressionInfo{Algorithm: server.S2Compression, OriginalSize: uint64(len(plain))}
	body, err := info.Algorithm.Compress(plain)
	if err != nil {
		t.Fatal(err)
	}
	return append(info.MarshalMetadata(), body...)
}

// paths are those of the blocks, in order.
func paths(t *testing.T, dir string) (all []string) {
	t.Helper()
	files, err := blockfile.List(filepath.Dir(blockFiles(t, dir)[0]))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		all = append(all, f.Path)
	}
	return all
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever bit is flipped of a running server's blocks, whether the journal has the event
// or not, and however new it is, the event is named.
func TestFlipsBesideAServer(t *testing.T) {
	dir, all := atRest(t, 600)
	files := paths(t, dir)
	if len(files) < 3 {
		t.Fatalf("%d blocks", len(files))
	}
	random := rand.New(rand.NewPCG(1, 0))
	for _, n := range []int{0, len(files) / 2, len(files) - 1} {
		whole := content(t, files[n])
		raw, reason := blockfile.Decompress(whole)
		if reason != "" {
			t.Fatal(reason)
		}
		records := split(raw)
		for _, i := range []int{0, len(records) / 2, len(records) - 2, len(records) - 1} {
			record := records[i]
			at := len(bytes.Join(records[:i], nil))
			sequence := binary.LittleEndian.Uint64(record[4:])
			subject := blockfile.Head + int(binary.LittleEndian.Uint16(record[20:]))
			headers := int(binary.LittleEndian.Uint32(record[subject:]))
			for where, offset := range map[string]int{
				"length": 1, "length, much": 2, "sequence": 4, "time": 14, "length of the subject": 20, "subject": blockfile.Head + 9,
				"length of the headers": subject, "envelope": subject + 4 + bytes.Index(record[subject+4:], []byte("ce-type: ")) + 10, "headers' end": subject + 3 + headers,
				"data": len(record) - blockfile.Check - 5, "checksum": len(record) - 3,
			} {
				bit := random.IntN(8)
				flipped := bytes.Clone(raw)
				flipped[at+offset] ^= 1 << bit
				put(t, files[n], flipped)
				r, _ := auditBeside(t, dir, true)
				if r.Finding == nil || r.Finding.First != sequence || r.Finding.Last != sequence {
					t.Errorf("bit %d of the %s of record %d of block %d, event %d: %+v", bit, where, i, n, sequence, r)
				}
			}
		}
		put(t, files[n], whole)
	}
	for _, i := range random.Perm(len(content(t, files[0])))[:40] {
		whole := content(t, files[0])
		flipped := bytes.Clone(whole)
		flipped[i] ^= 8
		put(t, files[0], flipped)
		if r, _ := auditBeside(t, dir, true, holding(t, all)); r.Finding == nil {
			t.Errorf("byte %d of a compressed block: %+v", i, r)
		}
		put(t, files[0], whole)
	}
}

// What is taken away beside a server is missed, be it in the journal or not.
func TestLossBesideAServer(t *testing.T) {
	dir, all := atRest(t, 600)
	files := paths(t, dir)
	newest := content(t, files[len(files)-1])
	records := split(newest)
	first := func(path string) uint64 {
		raw, _ := blockfile.Decompress(content(t, path))
		return binary.LittleEndian.Uint64(raw[4:])
	}
	last := uint64(len(all))
	for name, c := range map[string]struct {
		file   string
		change func(path string)
		want   uint64
	}{
		"the first block":          {files[0], nil, 1},
		"a block":                  {files[1], nil, first(files[1])},
		"the newest block":         {files[len(files)-1], nil, first(files[len(files)-1])},
		"the newest event":         {files[len(files)-1], func(p string) { put(t, p, bytes.Join(records[:len(records)-1], nil)) }, last},
		"a part of it":             {files[len(files)-1], func(p string) { put(t, p, newest[:len(newest)-9]) }, last},
		"nearly all of it":         {files[len(files)-1], func(p string) { put(t, p, newest[:len(newest)-len(records[len(records)-1])+3]) }, last},
		"all events of the newest": {files[len(files)-1], func(p string) { put(t, p, nil) }, first(files[len(files)-1])},
	} {
		t.Run(name, func(t *testing.T) {
			whole := content(t, c.file)
			if c.change == nil {
				if err := os.Remove(c.file); err != nil {
					t.Fatal(err)
				}
			} else {
				c.change(c.file)
			}
			if r, _ := auditBeside(t, dir, true); r.Finding == nil || r.Finding.First != c.want || r.Finding.Last != c.want {
				t.Errorf("event %d is missing: %+v", c.want, r)
			}
			put(t, c.file, whole)
		})
	}
}

// Who writes another event into a block, with all checksums and links, is told by the
// journal where that still has it.
func TestAnotherEventBesideAServer(t *testing.T) {
	dir := t.TempDir()
	log, stop := serve(t, jetstream.ServerOptions{Dir: dir, UnsafeNoSync: true})
	defer stop()
	all := fill(t, log, 300)
	other := t.TempDir()
	another, stop := serve(t, jetstream.ServerOptions{Dir: other, UnsafeNoSync: true})
	chain := all[199].Chain
	for i := range all {
		if i == 200 {
			all[i].User = "somebody else"
		}
		if i >= 200 {
			chain = events.Link(chain, &all[i])
			all[i].Chain = chain
		}
		if _, err := another.Append(t.Context(), uint64(i), all[i:i+1]); err != nil && !all[i].More {
			t.Fatal(err)
		}
	}
	stop()
	put(t, blockFiles(t, dir)[0], content(t, blockFiles(t, other)[0]))
	if r, _ := auditBeside(t, dir, true); r.Finding == nil || r.Finding.First != 201 || !strings.Contains(r.Finding.Reason, "than the journal") {
		t.Errorf("event 201 is another: %+v", r)
	}
}

// Whatever bit is flipped of what the journal holds, it is found, and which append it is.
func TestFlipsInTheJournalBesideAServer(t *testing.T) {
	for name, n := range map[string]uint64{"of one file": 80, "of two files": 600} {
		t.Run(name, func(t *testing.T) {
			dir, all := atRest(t, n)
			seen := map[uint64]bool{}
			for _, path := range intent.Paths(dir, "REPRISE") {
				whole := content(t, path)
				at := 40
				for at < len(whole) {
					size := int(binary.BigEndian.Uint32(whole[at:]))
					after := binary.BigEndian.Uint64(whole[at+12:])
					if size < 20 || at+12+size > len(whole) || seen[after] {
						break
					}
					for _, offset := range []int{0, 3, 4, 11, 12, 19, 22, 40, 60, 12 + size/2, 12 + size - 1} {
						flipped := bytes.Clone(whole)
						flipped[at+offset] ^= 1 << (offset % 8)
						put(t, path, flipped)
						r, _ := auditBeside(t, dir, true)
						if f := r.Finding; f == nil || f.First != after+1 && f.First != 1 || f.Last <= after {
							t.Errorf("byte %d of the append after %d, in %s at %d: %+v", offset, after, filepath.Base(path), at, r)
						}
					}
					seen[after] = true
					at += 12 + size
				}
				put(t, path, whole)
			}
			if len(seen) < 3 || len(all) == 0 {
				t.Errorf("%d appends are too few", len(seen))
			}
		})
	}
}
