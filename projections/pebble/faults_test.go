package pebble_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/reprise-run/reprise/events/memlog"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/projections/pebble"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// TestCrash takes the file system away at many moments: what is left must be the
// projection as of some decision, and catch up to the same bytes.
func TestCrash(t *testing.T) {
	h := projectionstest.Random(4, 3000)
	reference := open(t, vfs.NewMem())
	fill(t, reference, h.Events, 100)
	want := dump(t, reference)
	rng := rand.New(rand.NewPCG(4, 4))
	for _, kept := range []int{0, 30, 70} {
		fs := vfs.NewCrashableMem()
		s := open(t, fs)
		for at := 0; at < len(h.Events); {
			at = whole(h.Events, min(at+500, len(h.Events)))
			fill(t, s, h.Events[:at], 50)
			crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: rng})
			again := open(t, crashed)
			state := resume(t, again)
			prefix := projections.NewState()
			if _, err := prefix.Fold(h.Events[:state.Sequence()]); err != nil {
				t.Fatal(err)
			}
			if projections.Hash(prefix.View()) != projections.Hash(state.View()) {
				t.Fatalf("after a crash at %d the projection is not what the log says at %d", at, state.Sequence())
			}
			if n := state.Sequence(); n > 0 && h.Events[n-1].More {
				t.Fatalf("after a crash the projection ends within a decision, at %d", n)
			}
			fill(t, again, h.Events, 100)
			if dump(t, again) != want {
				t.Fatalf("after a crash at %d the projection does not catch up", at)
			}
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDamagedIsRebuilt(t *testing.T) {
	h := projectionstest.Random(5, 2000)
	log := memlog.New()
	for i := 0; i < len(h.Events); {
		end := whole(h.Events, min(i+500, len(h.Events)))
		if _, err := log.Append(t.Context(), uint64(i), h.Events[i:end]); err != nil {
			t.Fatal(err)
		}
		i = end
	}
	for name, damage := range map[string]func(data []byte, file string) []byte{
		"truncated tables":    func(b []byte, file string) []byte { return cut(b, strings.HasSuffix(file, ".sst")) },
		"garbled tables":      func(b []byte, file string) []byte { return garble(b, strings.HasSuffix(file, ".sst")) },
		"truncated manifest":  func(b []byte, file string) []byte { return cut(b, strings.HasPrefix(file, "MANIFEST")) },
		"everything is empty": func([]byte, string) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "projection")
			run := func() string {
				s, err := pebble.Open(dir, pebble.Options{Log: quiet})
				if err != nil {
					t.Fatal(err)
				}
				l, err := live.Start(t.Context(), log, live.Options{Store: s, Log: quiet})
				if err != nil {
					t.Fatal(err)
				}
				hash := projections.Hash(l.View())
				l.Close()
				if s.Folded() != 2000 {
					t.Errorf("folded to %d", s.Folded())
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				return hash
			}
			want := run()
			if run() != want {
				t.Fatal("a second start gives another state")
			}
			files, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				path := filepath.Join(dir, f.Name())
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, damage(data, f.Name()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if run() != want {
				t.Error("the rebuilt state is another")
			}
			if _, err := os.Stat(dir + ".damaged"); err != nil {
				t.Errorf("the damaged projection was not put aside: %v", err)
			}
		})
	}
}

func cut(b []byte, yes bool) []byte {
	if yes {
		return b[:len(b)/2]
	}
	return b
}

func garble(b []byte, yes bool) []byte {
	for i := range b {
		if yes && i%50 == 7 && i < len(b)-200 {
			b[i] ^= 0x55
		}
	}
	return b
}

func TestOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	s, err := pebble.Open(dir, pebble.Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := pebble.Open(dir, pebble.Options{Log: quiet}); err == nil || !strings.Contains(err.Error(), "stop that first") {
		t.Errorf("opened twice: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	h := projectionstest.Random(6, 6000)
	mem := vfs.NewMem()
	full := &errorfs.Toggle{Injector: errorfs.ErrInjected.If(errorfs.Writes)}
	s, err := pebble.Open("p", pebble.Options{FS: errorfs.Wrap(mem, full), Log: quiet, MemTable: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	half := whole(h.Events, 1000)
	fill(t, s, h.Events[:half], 10)
	full.On()
	state := projections.NewState()
	if _, err := state.Fold(h.Events[:half]); err != nil {
		t.Fatal(err)
	}
	for i := half; err == nil; i++ {
		var changes []projections.Change
		if changes, err = state.Fold(h.Events[i : i+1]); err != nil {
			t.Fatal(err)
		}
		err = s.Commit(h.Events[i:i+1], changes)
	}
	if !strings.Contains(err.Error(), "see that the disk has room") {
		t.Errorf("a full disk: %v", err)
	}
	full.Off()
	if err := s.Close(); err == nil {
		t.Error("Close does not say that the projection was not written")
	}
	again := open(t, mem)
	fill(t, again, h.Events, 100)
	reference := open(t, vfs.NewMem())
	fill(t, reference, h.Events, 100)
	if dump(t, again) != dump(t, reference) {
		t.Error("the projection does not catch up")
	}
}
