package pebble_test

import (
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/eventsgen"
	"github.com/reprise-run/reprise/events/memlog"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/projections/pebble"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// openSmall opens a store that fills in many small pieces.
func openSmall(fs vfs.FS, segment int) (*pebble.Store, error) {
	return pebble.Open("p", pebble.Options{FS: fs, Log: quiet, MemTable: 1 << 18, Segment: segment, Gather: 10_000})
}

// pour gives events to Fill, in batches of at most n, from where the store is.
func pour(t testing.TB, s *pebble.Store, all []events.Event, n int) error {
	t.Helper()
	objects, at, _, err := s.Load(t.Context())
	if err != nil {
		return err
	}
	b := projections.NewBuilder(objects, at)
	for at := int(at); at < len(all); {
		end := whole(all, min(at+n, len(all)))
		outcomes, err := b.Fold(all[at:end])
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Fill(all[at:end], outcomes); err != nil {
			return err
		}
		at = end
	}
	return s.Filled()
}

// However a projection is filled, it is the same as one that has followed the log.
func TestFillGivesTheSameBytes(t *testing.T) {
	h := projectionstest.Random(1, 3000)
	followed := open(t, vfs.NewMem())
	fill(t, followed, h.Events, 100)
	want := dump(t, followed)
	for name, c := range map[string]struct{ segment, first, until int }{
		"at once":                       {0, 0, 3000},
		"in segments":                   {300, 0, 3000},
		"after what was followed":       {700, 1000, 3000},
		"and then it follows":           {500, 0, 2000},
		"between two that are followed": {500, 1000, 2000},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			s, err := openSmall(fs, c.segment)
			if err != nil {
				t.Fatal(err)
			}
			if c.first > 0 {
				fill(t, s, h.Events[:whole(h.Events, c.first)], 50)
			}
			if err := pour(t, s, h.Events[:whole(h.Events, c.until)], 70); err != nil {
				t.Fatal(err)
			}
			if n := int(s.Folded()); n != whole(h.Events, c.until) {
				t.Errorf("filled up to %d", n)
			}
			state := fill(t, s, h.Events, 100)
			if dump(t, s) != want {
				t.Error("the projection comes out otherwise")
			}
			prefix := projections.NewState()
			if _, err := prefix.Fold(h.Events); err != nil {
				t.Fatal(err)
			}
			if projections.Hash(state.View()) != projections.Hash(prefix.View()) {
				t.Error("the objects come out otherwise")
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			again := open(t, fs)
			defer again.Close()
			if dump(t, again) != want {
				t.Error("opened again, the projection is another")
			}
		})
	}
}

// A server that starts on a long log builds the projection that another has made by
// following it, and goes on from there.
func TestBuiltIsAsFollowed(t *testing.T) {
	log, followed := memlog.New(), open(t, vfs.NewMem())
	defer followed.Close()
	state, n := projections.NewState(), uint64(0)
	for batch := range eventsgen.New(eventsgen.Options{Seed: 3, Events: 12_500}).Batches(200) {
		changes, err := state.Fold(batch)
		if err == nil {
			err = followed.Commit(batch, changes)
		}
		if err == nil {
			n, err = log.Append(t.Context(), n, batch)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	built, err := openSmall(vfs.NewMem(), 5000)
	if err != nil {
		t.Fatal(err)
	}
	defer built.Close()
	l, err := live.Start(t.Context(), log, live.Options{Store: built, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if projections.Hash(l.View()) != projections.Hash(state.View()) {
		t.Error("the objects come out otherwise")
	}
	if got, want := dump(t, built), dump(t, followed); got != want {
		t.Errorf("the projection comes out otherwise: %s", difference(got, want))
	}
	if report, err := followed.Verify(t.Context(), log, l.View()); err != nil || !report.Identical() || report.Live != report.State {
		t.Errorf("verified: %+v, %v", report, err)
	}
}

// difference is the first line of a dump that is not as it should be.
func difference(got, want string) string {
	is, should := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(is), len(should)) {
		if is[i] != should[i] {
			return is[i] + "\nand not\n" + should[i]
		}
	}
	return "one is longer"
}

// A store that is closed while it is filled has what it was given.
func TestFillIsClosed(t *testing.T) {
	h := projectionstest.Random(2, 1000)
	fs := vfs.NewMem()
	s, err := openSmall(fs, 300)
	if err != nil {
		t.Fatal(err)
	}
	b := projections.NewBuilder(nil, 0)
	end := whole(h.Events, 800)
	outcomes, err := b.Fold(h.Events[:end])
	if err == nil {
		err = s.Fill(h.Events[:end], outcomes)
	}
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	again := open(t, fs)
	defer again.Close()
	if int(again.Folded()) != end {
		t.Errorf("it has what was up to %d, and was given up to %d", again.Folded(), end)
	}
}

// TestFillCrash stops a filling store at every operation on its files, some by an
// error, all by taking the file system away as it then was. What is left is the
// projection as of some decision, and catches up to the same bytes.
func TestFillCrash(t *testing.T) {
	h := projectionstest.Random(4, 1500)
	reference := open(t, vfs.NewMem())
	fill(t, reference, h.Events, 100)
	want := dump(t, reference)
	rng := rand.New(rand.NewPCG(4, 4))
	found := map[uint64]bool{}
	for stop := int64(0); ; stop += 7 {
		mem := vfs.NewCrashableMem()
		var n atomic.Int64
		n.Store(-1 << 30) // Pebble itself does not survive an error while it opens.
		dead := errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && n.Add(1) > stop {
				return errorfs.ErrInjected
			}
			return nil
		})
		s, err := openSmall(errorfs.Wrap(mem, dead), 400)
		if err != nil {
			t.Fatal(err)
		}
		n.Store(0)
		err = pour(t, s, h.Events, 60)
		ended := n.Load() <= stop
		if err == nil != ended {
			t.Fatalf("stopped after %d operations of %d: %v", stop, n.Load(), err)
		}
		crashed := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(100), RNG: rng})
		s.Close()
		again, err := openSmall(crashed, 400)
		if err != nil {
			t.Fatalf("stopped after %d operations: %v", stop, err)
		}
		found[again.Folded()] = true
		if at := again.Folded(); at > 0 && h.Events[at-1].More {
			t.Fatalf("stopped after %d operations, it ends within a decision, at %d", stop, at)
		}
		if err := pour(t, again, h.Events, 60); err != nil {
			t.Fatal(err)
		}
		if dump(t, again) != want {
			t.Fatalf("stopped after %d operations, at %d, it does not catch up: %s", stop, again.Folded(), difference(dump(t, again), want))
		}
		if left, _ := crashed.List("p/filling"); len(left) > 0 {
			t.Fatalf("files are left: %v", left)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		if ended {
			break
		}
	}
	if len(found) < 4 {
		t.Errorf("what was found was only ever up to %v", found)
	}
}

func TestFillFullDisk(t *testing.T) {
	h := projectionstest.Random(6, 3000)
	mem := vfs.NewMem()
	full := &errorfs.Toggle{Injector: errorfs.ErrInjected.If(errorfs.Writes)}
	s, err := openSmall(errorfs.Wrap(mem, full), 1000)
	if err != nil {
		t.Fatal(err)
	}
	full.On()
	if err := pour(t, s, h.Events, 100); err == nil || !strings.Contains(err.Error(), "see that the disk has room") {
		t.Errorf("a full disk: %v", err)
	}
	full.Off()
	if err := s.Fill(nil, nil); err == nil {
		t.Error("it goes on, and what was lost is missing")
	}
	if err := s.Close(); err == nil {
		t.Error("Close does not say that the projection was not written")
	}
	again := open(t, mem)
	defer again.Close()
	if again.Folded() != 0 {
		t.Errorf("there are events up to %d", again.Folded())
	}
}
