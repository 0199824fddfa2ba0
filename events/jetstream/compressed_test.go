package jetstream_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/jetstream/blockfile"
)

// A power cut may take a block that was just begun, after the one before was
// compressed, as JetStream does at once if it has to (and did for all logs before 0379).
// The log goes on in the one before, and can be read afterwards; what the block had is
// appended again.
func TestBlockLostAfterCompression(t *testing.T) {
	dir := t.TempDir()
	s := start(t, jetstream.ServerOptions{Dir: dir})
	log := openLog(t, s, false)
	msgs := filepath.Join(dir, "jetstream", "$G", "streams", "REPRISE", "msgs")
	second := filepath.Join(msgs, "2.blk")
	last := uint64(0)
	for size(t, second) == 0 {
		batch := some(last+1, 1)
		batch[0].Note = incompressible(last, 5000)
		var err error
		if last, err = log.Append(t.Context(), last, batch); err != nil {
			t.Fatal(err)
		}
	}
	crashed := filepath.Join(t.TempDir(), "crashed")
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	msgs = filepath.Join(crashed, "jetstream", "$G", "streams", "REPRISE", "msgs")
	plain, err := os.ReadFile(filepath.Join(msgs, "1.blk"))
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	if err := blockfile.Compress(&packed, bytes.NewReader(plain), int64(len(plain))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(msgs, "1.blk"), packed.Bytes(), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(msgs, "2.blk"), 0); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: crashed})
		if err != nil {
			t.Fatal(err)
		}
		log := openLog(t, s, false)
		if end, err := log.Last(t.Context()); err != nil || end != last {
			t.Errorf("the log ends at %d (%v); %d was acknowledged", end, err, last)
		}
		if _, err := log.Get(t.Context(), last); err != nil {
			t.Error(err)
		}
		if last, err = log.Append(t.Context(), last, some(last+1, 1)); err != nil {
			t.Fatal(err)
		}
		s.Shutdown()
	}
}

// size is that of a file, 0 if there is none.
func size(t *testing.T, file string) int64 {
	info, err := os.Stat(file)
	if os.IsNotExist(err) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
