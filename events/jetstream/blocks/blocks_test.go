package blocks_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/eventsgen"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/jetstream/blocks"
	"github.com/reprise-run/reprise/events/proof"
	"github.com/reprise-run/reprise/events/proof/prooftest"
)

// serve starts a server, and returns its log and what stops it.
func serve(t testing.TB, o jetstream.ServerOptions) (log *jetstream.Log, stop func()) {
	t.Helper()
	s, err := jetstream.StartServer(o)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := s.Connect()
	if err == nil {
		log, err = jetstream.History(t.Context(), nc, jetstream.Config{})
	}
	if err != nil {
		s.Shutdown()
		t.Fatal(err)
	}
	return log, func() {
		nc.Close()
		s.Shutdown()
	}
}

// write makes a log of n events in a directory, as a server leaves it.
func write(t testing.TB, dir string, n uint64) []events.Event {
	t.Helper()
	log, stop := serve(t, jetstream.ServerOptions{Dir: dir, UnsafeNoSync: true})
	defer stop()
	return fill(t, log, n)
}

// fill appends n events to an empty log, and returns them unless they are very many.
func fill(t testing.TB, log events.Log, n uint64) (all []events.Event) {
	t.Helper()
	last := uint64(0)
	var err error
	for batch := range eventsgen.New(eventsgen.Options{Seed: 1, Events: n}).Batches(200) {
		if last, err = log.Append(t.Context(), last, batch); err != nil {
			t.Fatal(err)
		}
		if n < 100_000 {
			all = append(all, batch...)
		}
	}
	return all
}

func open(t testing.TB, dir string) *blocks.Stream {
	t.Helper()
	s, err := blocks.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// blockFiles are the paths of a log's blocks.
func blockFiles(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "REPRISE", "msgs", "*.blk"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no blocks in %s (%v)", dir, err)
	}
	return files
}

// audit audits a directory against a checkpoint of the whole log, if there is one.
func audit(t testing.TB, dir string, held ...proof.Held) blocks.Result {
	t.Helper()
	r, err := open(t, dir).Audit(t.Context(), proof.NewAudit(held), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// holding is an auditor's checkpoint of all events.
func holding(t testing.TB, all []events.Event) proof.Held {
	t.Helper()
	var tree proof.Tree
	if err := tree.Take(all); err != nil {
		t.Fatal(err)
	}
	return proof.Held{Checkpoint: tree.Checkpoint("x", time.Time{}), From: "of the auditor"}
}

// What is read of the files is what was appended, in blocks compressed and not, and
// reading changes nothing.
func TestReadsWhatWasAppended(t *testing.T) {
	dir := t.TempDir()
	all := write(t, dir, 16_000)
	before := snapshot(t, dir)
	s := open(t, dir)
	if s.Len() < 3 {
		t.Fatalf("%d blocks are too few for this test", s.Len())
	}
	var got []events.Event
	for i := range s.Len() {
		b, err := s.Read(i)
		if err != nil || b.Fault != nil {
			t.Fatalf("block %d: %v, %+v", i, err, b.Fault)
		}
		got = append(got, b.Events...)
	}
	if len(got) != len(all) {
		t.Fatalf("%d events are read of %d", len(got), len(all))
	}
	for i := range all {
		if !reflect.DeepEqual(got[i], all[i]) {
			t.Fatalf("event %d is read as\n%s\nand was\n%s", i+1, got[i].Text(), all[i].Text())
		}
	}
	if r := audit(t, dir, holding(t, all)); r.Finding != nil || r.Remark != "" || r.Newer != nil {
		t.Errorf("an intact log: %+v", r)
	}
	if !reflect.DeepEqual(snapshot(t, dir), before) {
		t.Error("reading has changed the files")
	}
}

// snapshot is the content of all files below a directory.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		all[path] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Whatever bit of a block is flipped, compressed or not, it is found if another
// event is read, or none.
func TestFlipsInBlocks(t *testing.T) {
	dir := t.TempDir()
	all := write(t, dir, 60)
	held := holding(t, all)
	path := blockFiles(t, dir)[0]
	plain, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"plain": plain, "compressed": compressed(t, plain)} {
		t.Run(name, func(t *testing.T) {
			put(t, path, content)
			if r := audit(t, dir, held); r.Finding != nil || r.Remark != "" {
				t.Fatalf("an intact block: %+v", r)
			}
			prooftest.Flip(t, 1, content, 3000, func(at prooftest.Bit, flipped []byte) prooftest.Verdict {
				b := blocks.Parse(flipped, "reprise", 1)
				a := proof.NewAudit([]proof.Held{held})
				a.Take(b.Events)
				return prooftest.Verdict{
					Accused: a.End() != nil || b.Fault != nil && !b.Fault.Tail, Same: reflect.DeepEqual(b.Events, all),
				}
			})
		})
	}
}

// Who keeps an event of each block does not keep the blocks.
func TestEventsDoNotHoldBlocks(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, 16_000)
	s := open(t, dir)
	r, err := s.Log(16_000).Follow(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	var kept []events.Event
	for n := 0; n < 16_000; {
		run, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n += len(run)
		kept = append(kept, run[0])
	}
	r = nil
	if grown := int64(heap()) - int64(before); grown > 4<<20 {
		t.Errorf("with %d events of %d blocks %d kB are kept", len(kept), s.Len(), grown>>10)
	}
	runtime.KeepAlive(kept)
}

// heap is how much memory is in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A block that was made to fill the auditor's memory is refused instead.
func TestBlocksAreNotUnpackedWithoutEnd(t *testing.T) {
	zeros := make([]byte, 200<<20)
	info := server.CompressionInfo{Algorithm: server.S2Compression, OriginalSize: uint64(len(zeros))}
	packed, err := info.Algorithm.Compress(zeros)
	if err != nil {
		t.Fatal(err)
	}
	b := blocks.Parse(append(info.MarshalMetadata(), packed...), "reprise", 1)
	if f := b.Fault; f == nil || f.Tail || !strings.Contains(f.Reason, "more than the 67108864 bytes") {
		t.Errorf("%d bytes that stand for %d: %+v", len(packed), len(zeros), f)
	}
}

// A block that was made of nothing but beginnings of large records is read in no more
// than a moment, and is not taken for what a crash leaves.
func TestBlocksAreNotSearchedWithoutEnd(t *testing.T) {
	like := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(nil, 1<<20), 5)
	raw := bytes.Repeat(append(like, 0, 0, 0, 0), 8<<20/16)
	if f := blocks.Parse(raw, "reprise", 1).Fault; f == nil || f.Tail {
		t.Errorf("%+v", f)
	}
}

func put(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Flips in the files that the server makes again accuse nobody.
func TestFlipsInOtherFiles(t *testing.T) {
	dir := t.TempDir()
	held := holding(t, write(t, dir, 60))
	for path, content := range snapshot(t, dir) {
		if strings.HasSuffix(path, ".blk") {
			continue
		}
		for i := range len(content) {
			flipped := []byte(content)
			flipped[i] ^= 1 << (i % 8)
			put(t, path, flipped)
			if r := audit(t, dir, held); i < 50 && (r.Finding != nil || r.Remark != "") {
				t.Fatalf("byte %d of %s: %+v", i, path, r)
			}
			if i == 50 {
				break
			}
		}
	}
}

// What somebody does who knows the format, checksums and chain included, is found,
// and the first bad sequence is named as well as it can be known.
func TestTamperingWithBlocks(t *testing.T) {
	dir := t.TempDir()
	all := write(t, dir, 500)
	held := holding(t, all)
	path := blockFiles(t, dir)[0]
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	records := split(whole)
	if len(records) != 500 {
		t.Fatalf("%d records", len(records))
	}
	for _, c := range []struct {
		name   string
		change func([][]byte) [][]byte
		want   string
	}{
		{"removed", func(r [][]byte) [][]byte { return slices.Delete(r, 99, 100) }, "is 100:"},
		{"reordered", func(r [][]byte) [][]byte { r[99], r[100] = r[100], r[99]; return r }, "is 100:"},
		{"doubled", func(r [][]byte) [][]byte { return slices.Insert(r, 100, r[99]) }, "is 101:"},
		{"cut short", func(r [][]byte) [][]byte { return r[:99] }, "is 100:"},
		{"erased", func(r [][]byte) [][]byte {
			r[99] = bytes.Clone(r[99])
			r[99][11] |= 0x80
			return reseal(r, 99)
		}, "is 100:"},
		{"another sequence", func(r [][]byte) [][]byte {
			r[99] = bytes.Clone(r[99])
			binary.LittleEndian.PutUint64(r[99][4:], 107)
			return reseal(r, 99)
		}, "is 100:"},
		{"another subject", func(r [][]byte) [][]byte {
			r[99] = bytes.Clone(r[99])
			r[99][22+12] ^= 1
			return reseal(r, 99)
		}, "is 100:"},
		{"another header that no event has", func(r [][]byte) [][]byte {
			r[99] = bytes.Replace(r[99], []byte("ce-specversion: 1.0"), []byte("ce-specversion: 1.1"), 1)
			return reseal(r, 99)
		}, "is 100:"},
		{"another id", func(r [][]byte) [][]byte {
			r[99] = bytes.Replace(r[99], []byte("ce-id: 100"), []byte("ce-id: 101"), 1)
			return reseal(r, 99)
		}, "is 100:"},
		{"another body", func(r [][]byte) [][]byte {
			r[99] = bytes.Clone(r[99])
			r[99][len(r[99])-20] ^= 1
			return reseal(r, 99)
		}, "is 100:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			put(t, path, bytes.Join(c.change(slices.Clone(records)), nil))
			r := audit(t, dir, held)
			if r.Finding == nil || !strings.Contains(r.Finding.Error(), c.want) {
				t.Errorf("found: %+v", r)
			}
		})
	}
	put(t, path, whole[:len(whole)-1])
	if r := audit(t, dir); r.Finding != nil || !strings.Contains(r.Remark, "behind event 499") {
		t.Errorf("a crash in the middle of the last append: %+v", r)
	}
	if r := audit(t, dir, held); r.Finding == nil || r.Finding.First != 500 {
		t.Errorf("a log that has lost its last event: %+v", r)
	}
}

// split takes a block apart.
func split(block []byte) (records [][]byte) {
	for len(block) > 0 {
		n := binary.LittleEndian.Uint32(block) &^ (1 << 31)
		records = append(records, block[:n:n])
		block = block[n:]
	}
	return records
}

// A log of which a file is missing is accused where that begins.
func TestLostBlocks(t *testing.T) {
	dir := t.TempDir()
	held := holding(t, write(t, dir, 16_000))
	files := blockFiles(t, dir)
	for i, path := range files {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s := open(t, dir)
		first := uint64(0)
		for n := range s.Len() {
			if b, err := s.Read(n); err != nil {
				t.Fatal(err)
			} else if b.Path == path {
				first = b.Events[0].Sequence
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if r := audit(t, dir, held); r.Finding == nil || r.Finding.First != first || r.Finding.Last != first {
			t.Errorf("without block %d, which begins at %d: %+v", i, first, r)
		}
		put(t, path, content)
	}
	if _, err := blocks.Open(t.TempDir(), ""); err == nil || !strings.Contains(err.Error(), "no log") {
		t.Errorf("an empty directory: %v", err)
	}
}

// BenchmarkAudit reads and verifies a log of a million events from its files.
func BenchmarkAudit(b *testing.B) {
	for _, n := range []uint64{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			if testing.Short() && n > 100_000 {
				b.Skip("a log of a million events takes a minute to write; run without -short")
			}
			dir := b.TempDir()
			write(b, dir, n)
			s := open(b, dir)
			var before, after syscall.Rusage
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				a := proof.NewAudit(nil)
				if r, err := s.Audit(b.Context(), a, nil); err != nil || r.Finding != nil || a.Taken() != n {
					b.Fatal(err, r, a.Taken())
				}
			}
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
				b.Fatal(err)
			}
			spent := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
			b.ReportMetric(float64(spent)/1000/float64(n)/float64(b.N), "cpu-µs/event")
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(s.Bytes())/float64(n), "bytes/event")
		})
	}
}
