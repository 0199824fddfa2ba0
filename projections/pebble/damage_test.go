package pebble_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/reprise-run/reprise/events/memlog"
	"github.com/reprise-run/reprise/events/proof/prooftest"
	"github.com/reprise-run/reprise/projections/history"
	"github.com/reprise-run/reprise/projections/pebble"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// TestDamageInUse garbles the tables under an open projection: questions fail,
// folding goes on, and the next start rebuilds.
func TestDamageInUse(t *testing.T) {
	h := projectionstest.Random(10, 3000)
	dir := filepath.Join(t.TempDir(), "projection")
	start := func() *pebble.Store {
		s, err := pebble.Open(dir, pebble.Options{Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := start()
	half := whole(h.Events, 2000)
	fill(t, s, h.Events[:half], 100)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = start()
	state := resume(t, s)
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	for _, path := range tables {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		overwrite(t, path, garble(data, true))
	}
	failed := false
	for _, err := range s.Events(t.Context(), history.Query{}) {
		failed = failed || err != nil
	}
	if !failed {
		t.Error("reading damaged tables does not fail")
	}
	log := memlog.New()
	for i := 0; i < half; {
		n := whole(h.Events[:half], min(i+500, half)) - i
		if _, err := log.Append(t.Context(), uint64(i), h.Events[i:i+n]); err != nil {
			t.Fatal(err)
		}
		i += n
	}
	if r, err := s.Verify(t.Context(), log, nil); err == nil || r != nil && r.Difference != "" {
		t.Errorf("what cannot be read is compared: %+v, %v", r, err)
	}
	changes, err := state.Fold(h.Events[half:])
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(h.Events[half:], changes); err != nil {
		t.Errorf("what is new cannot be stored: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s = start()
	defer s.Close()
	if s.Folded() != 0 {
		t.Errorf("the next start does not rebuild, but has %d", s.Folded())
	}
}

// A projection in use is compared as it lies on the disk, whatever of it is in memory:
// whichever bit of its files is flipped, it is found, or changes nothing.
func TestFlipsInUse(t *testing.T) {
	h := projectionstest.Random(10, 500)
	dir := filepath.Join(t.TempDir(), "projection")
	s, err := pebble.Open(dir, pebble.Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fill(t, s, h.Events, 100)
	log := memlog.New()
	if _, err := log.Append(t.Context(), 0, h.Events); err != nil {
		t.Fatal(err)
	}
	verify := func() prooftest.Verdict {
		r, err := s.Verify(t.Context(), log, nil)
		return prooftest.Verdict{Accused: err != nil || !r.Identical(), Same: err == nil && r.Sequence == uint64(len(h.Events))}
	}
	if v := verify(); v.Accused || !v.Same {
		t.Fatalf("an intact projection: %+v", v)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	tables := 0
	for _, path := range files {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		table := filepath.Ext(path) == ".sst"
		if table {
			tables++
		}
		prooftest.Flip(t, 1, content, 25, func(at prooftest.Bit, flipped []byte) prooftest.Verdict {
			overwrite(t, path, flipped)
			v := verify()
			if table && at.Byte < len(content)/2 && !v.Accused {
				t.Errorf("%s, which is of what was stored, is flipped in %s, and nobody notices", at, path)
			}
			return v
		})
		overwrite(t, path, content)
	}
	if v := verify(); v.Accused || tables == 0 {
		t.Errorf("with all put back, of %d tables: %+v", tables, v)
	}
	if left, err := filepath.Glob(dir + ".*"); err != nil || len(left) > 0 {
		t.Errorf("verifying leaves %v, %v", left, err)
	}
}

// What a process that was killed while it verified has left goes with the next start.
func TestLeftOfAVerification(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "projection")
	for _, left := range []string{".stored", ".verify"} {
		if err := os.MkdirAll(filepath.Join(dir+left, "a"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s, err := pebble.Open(dir, pebble.Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if left, err := filepath.Glob(dir + ".*"); err != nil || len(left) > 0 {
		t.Errorf("%v are left, %v", left, err)
	}
}

// overwrite puts other bytes in the place of a file's, which is never shorter
// meanwhile: Pebble may be reading it.
func overwrite(t *testing.T, path string, content []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(content, 0)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
