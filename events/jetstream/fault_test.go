package jetstream_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
)

// A full disk refuses appends, says so, and damages nothing.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=48m"); err != nil {
		t.Skipf("cannot mount a small file system to fill (%v): run as root, with the right to mount", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	log := openLog(t, s, false)
	last := uint64(0)
	for {
		batch := some(last+1, 20)
		for i := range batch {
			batch[i].Note = incompressible(last*20+uint64(i), 40_000)
		}
		next, err := log.Append(t.Context(), last, batch)
		if err != nil {
			t.Log(err)
			if errors.Is(err, events.ErrStale) || !strings.Contains(err.Error(), "full") {
				t.Errorf("a full disk is reported as: %v", err)
			}
			break
		}
		if last = next; last > 100_000 {
			t.Fatal("the disk does not get full")
		}
	}
	if _, err := log.Get(t.Context(), last); err != nil {
		t.Errorf("the log cannot be read while the disk is full: %v", err)
	}
	s.Shutdown()
	s, err = jetstream.StartServer(jetstream.ServerOptions{Dir: dir})
	if err != nil {
		t.Fatalf("starting on a full disk: %v", err)
	}
	defer s.Shutdown()
	log = openLog(t, s, false)
	end, err := log.Last(t.Context())
	if err != nil || end < last {
		t.Fatalf("the log ends at %d (%v); %d was acknowledged", end, err, last)
	}
	r, err := log.Follow(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for n := uint64(0); n < end; {
		got, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n += uint64(len(got))
	}
}

// incompressible is n bytes that compression does not shrink.
func incompressible(seed uint64, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		seed = seed*6364136223846793005 + 1442695040888963407
		b[i] = 'A' + byte(seed>>58)
	}
	return b
}

// A reader goes on where it was when its connection or its consumer is lost.
func TestReaderSurvives(t *testing.T) {
	s := start(t, jetstream.ServerOptions{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	writer := openLog(t, s, false)
	seed, err := s.AddUser("reader", jetstream.Permissions{Publish: []string{">"}, Subscribe: []string{">"}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := jetstream.WithSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := jetstream.Connect("nats://"+s.Addr(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	log, err := jetstream.History(t.Context(), nc, jetstream.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Append(t.Context(), 0, some(1, 500)); err != nil {
		t.Fatal(err)
	}
	r, err := log.Follow(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	next := uint64(1)
	readTo := func(end uint64) {
		t.Helper()
		for next <= end {
			got, err := r.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range got {
				if e.Sequence != next {
					t.Fatalf("event %d comes after %d", e.Sequence, next-1)
				}
				next++
			}
		}
	}
	readTo(500)
	if err := nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Append(t.Context(), 500, some(501, 500)); err != nil {
		t.Fatal(err)
	}
	readTo(1000)
	js, err := natsjs.New(connect(t, s))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "REPRISE")
	if err != nil {
		t.Fatal(err)
	}
	for name := range stream.ConsumerNames(t.Context()).Name() {
		if err := stream.DeleteConsumer(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := writer.Append(t.Context(), 1000, some(1001, 500)); err != nil {
		t.Fatal(err)
	}
	readTo(1500)
}

// Nobody can take anything out of the history.
func TestHistoryCannotBeDeletedFrom(t *testing.T) {
	s := start(t, jetstream.ServerOptions{Dir: t.TempDir()})
	log := openLog(t, s, false)
	if _, err := log.Append(t.Context(), 0, some(1, 10)); err != nil {
		t.Fatal(err)
	}
	js, err := natsjs.New(connect(t, s))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "REPRISE")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), 5); err == nil {
		t.Error("a message can be deleted")
	}
	if err := stream.Purge(t.Context()); err == nil {
		t.Error("the stream can be purged")
	}
	cfg := stream.CachedInfo().Config
	cfg.DenyDelete = false
	if _, err := js.UpdateStream(t.Context(), cfg); err == nil {
		t.Error("the denial can be lifted")
	}
}

// A log from whose files something was taken is not opened as if it were whole.
func TestLostFiles(t *testing.T) {
	dir := t.TempDir()
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	log := openLog(t, s, false)
	for last := uint64(0); last < 1000; {
		batch := some(last+1, 100)
		for i := range batch {
			batch[i].Note = incompressible(last+uint64(i), 20_000)
		}
		if last, err = log.Append(t.Context(), last, batch); err != nil {
			t.Fatal(err)
		}
	}
	s.Shutdown()
	blocks, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "REPRISE", "msgs", "*.blk"))
	if err != nil || len(blocks) < 2 {
		t.Fatalf("%d blocks (%v)", len(blocks), err)
	}
	if err := os.Remove(blocks[0]); err != nil {
		t.Fatal(err)
	}
	s = start(t, jetstream.ServerOptions{Dir: dir})
	if _, err := jetstream.History(t.Context(), connect(t, s), jetstream.Config{}); err == nil || !strings.Contains(err.Error(), "events are missing") {
		t.Errorf("a log without its first block: %v", err)
	}
}
