package pebble_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// TestReader holds the past to the contract of any other reader: what is put
// into a history of creations and read back as of its end.
func TestReader(t *testing.T) {
	projectionstest.Reader(t, func(t *testing.T, entries []*projections.Entry) projections.Reader {
		s := open(t, vfs.NewMem())
		t.Cleanup(func() { s.Close() })
		batch, changes := projectionstest.AsCreations(entries)
		if err := s.Commit(batch, changes); err != nil {
			t.Fatal(err)
		}
		state, err := s.StateAt(t.Context(), uint64(len(batch)))
		if err != nil {
			t.Fatal(err)
		}
		return state.View()
	})
}

// FuzzStore compares the durable projection with the one in memory: now, at any
// sequence, after it was opened anew, and rebuilt in other batches.
func FuzzStore(f *testing.F) {
	f.Add(uint64(1), uint16(50), uint16(25), uint8(3))
	f.Add(uint64(2), uint16(200), uint16(0), uint8(40))
	f.Fuzz(func(t *testing.T, seed uint64, size, moment uint16, batch uint8) {
		h := projectionstest.Random(seed, 1+int(size)%400)
		n := len(h.Events)
		fs := vfs.NewMem()
		s := open(t, fs)
		now := fill(t, s, h.Events, 1+int(batch))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, fs)
		defer s.Close()
		if got, want := projections.Hash(resume(t, s).View()), projections.Hash(now.View()); got != want {
			t.Errorf("opened anew, the state is %s and was %s", got, want)
		}
		at := int(moment) % (n + 1)
		past := projections.NewState()
		if _, err := past.Fold(h.Events[:at]); err != nil {
			t.Fatal(err)
		}
		state, err := s.StateAt(t.Context(), uint64(at))
		if err != nil {
			t.Fatal(err)
		}
		if projections.Hash(state.View()) != projections.Hash(past.View()) {
			t.Errorf("the state at %d is not what the events up to there make", at)
		}
		projectionstest.Consistent(t, state.View())
		again := open(t, vfs.NewMem())
		defer again.Close()
		fill(t, again, h.Events, n)
		if dump(t, again) != dump(t, s) {
			t.Error("rebuilt in one batch, the keys are others")
		}
	})
}
