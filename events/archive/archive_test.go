package archive_test

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/archive"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// history is the events that the tests archive: 40 are small enough to try all of
// an archive's bits.
func history(n int) []events.Event { return projectionstest.Random(3, n).Events }

// before returns the objects as they were before a sequence.
func before(t testing.TB, all []events.Event, from uint64) []archive.Object {
	t.Helper()
	s := projections.NewState()
	if _, err := s.Fold(all[:from-1]); err != nil {
		t.Fatal(err)
	}
	var objects []archive.Object
	for _, e := range projectionstest.All(s.View()) {
		objects = append(objects, archive.Object{Ref: e.Ref, UID: e.UID, Created: e.Created, Sequence: e.Sequence, Version: e.Version, Raw: e.Raw})
	}
	return objects
}

// write makes an archive of the events from one sequence to another.
func write(t testing.TB, all []events.Event, from, to uint64) []byte {
	t.Helper()
	h := archive.Header{Origin: "test", Cluster: "c", From: from, To: to, Program: "v1", Created: time.Unix(1_790_000_000, 0)}
	var objects []archive.Object
	if from > 1 {
		h.Before = all[from-2].Chain
		objects = before(t, all, from)
		s := archive.Summarize(slices.Values(objects))
		h.Snapshot = &s
	}
	var b bytes.Buffer
	w, err := archive.NewWriter(&b, h)
	for i := range objects {
		err = errors.Join(err, w.Object(&objects[i]))
	}
	err = errors.Join(err, w.Append(all[from-1:to]), w.Close())
	if err != nil {
		t.Fatal(err)
	}
	if w.Written() != int64(b.Len()) {
		t.Errorf("it says that it has written %d bytes of %d", w.Written(), b.Len())
	}
	return b.Bytes()
}

// contents reads an archive as those do who use it.
func contents(r io.Reader) (objects []archive.Object, all []events.Event, footer archive.Footer, err error) {
	a, err := archive.NewReader(r)
	if err != nil {
		return nil, nil, footer, err
	}
	defer a.Close()
	for o, err := range a.Objects() {
		if err != nil {
			return objects, all, footer, err
		}
		objects = append(objects, o)
	}
	for batch, err := range a.Batches() {
		if err != nil {
			return objects, all, footer, err
		}
		if batch[len(batch)-1].More {
			return objects, all, footer, errors.New("a batch ends in the middle of a decision")
		}
		all = append(all, batch...)
	}
	return objects, all, a.Footer(), nil
}

// ends moves a sequence on to the end of its decision.
func ends(all []events.Event, at uint64) uint64 {
	for all[at-1].More {
		at++
	}
	return at
}

func TestRoundTrip(t *testing.T) {
	all := history(9000)
	for _, want := range [][2]uint64{{1, 9000}, {1, ends(all, 1)}, {ends(all, 2000) + 1, ends(all, 7000)}, {ends(all, 8990) + 1, 9000}} {
		from, to := want[0], want[1]
		file := write(t, all, from, to)
		objects, got, footer, err := contents(bytes.NewReader(file))
		if err != nil {
			t.Fatalf("%d to %d: %v", from, to, err)
		}
		if !reflect.DeepEqual(got, all[from-1:to]) {
			t.Errorf("%d to %d: the events are not those that were written", from, to)
		}
		if from > 1 && !reflect.DeepEqual(objects, before(t, all, from)) || from == 1 && objects != nil {
			t.Errorf("%d to %d: the snapshot is not what was written", from, to)
		}
		if footer.Chain != all[to-1].Chain || footer.Events != to-from+1 {
			t.Errorf("%d to %d: the footer is %+v", from, to, footer)
		}
		h, _, err := archive.Check(bytes.NewReader(file), nil)
		if err != nil || h.Origin != "test" || h.From != from || h.To != to {
			t.Errorf("%d to %d: checked: %+v, %v", from, to, h, err)
		}
	}
}

func TestSameBytes(t *testing.T) {
	all := history(3000)
	if !bytes.Equal(write(t, all, 1, 3000), write(t, all, 1, 3000)) {
		t.Error("two archives of the same events differ")
	}
}

func TestWriterRefuses(t *testing.T) {
	all := history(100)
	begin := func(t *testing.T, to uint64) *archive.Writer {
		w, err := archive.NewWriter(io.Discard, archive.Header{From: 1, To: to})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	for name, c := range map[string]struct {
		do   func(t *testing.T) error
		want string
	}{
		"a gap": {func(t *testing.T) error { return begin(t, 100).Append(all[1:]) }, "sequence 1"},
		"what was altered": {func(t *testing.T) error {
			bad := slices.Clone(all)
			bad[49].User = "eve"
			return begin(t, 100).Append(bad)
		}, "sequence 50: it or an event before it is not what was appended"},
		"more than it said": {func(t *testing.T) error { return begin(t, ends(all, 50)).Append(all) }, "past the archive's end"},
		"less than it said": {func(t *testing.T) error {
			w := begin(t, 100)
			return errors.Join(w.Append(all[:ends(all, 50)]), w.Close())
		}, "was to end with event 100"},
		"half a decision": {func(t *testing.T) error {
			at := uint64(1)
			for !all[at-1].More {
				at++
			}
			w := begin(t, at)
			return errors.Join(w.Append(all[:at]), w.Close())
		}, "middle of a decision"},
		"no range": {func(*testing.T) error {
			_, err := archive.NewWriter(io.Discard, archive.Header{From: 5, To: 4})
			return err
		}, "from event 5 to 4"},
		"no snapshot": {func(*testing.T) error {
			_, err := archive.NewWriter(io.Discard, archive.Header{From: 5, To: 9})
			return err
		}, "no snapshot"},
		"another snapshot": {func(t *testing.T) error {
			w, err := archive.NewWriter(io.Discard, archive.Header{From: 5, To: 9, Snapshot: &archive.Snapshot{Objects: 1}})
			return errors.Join(err, w.Append(all[4:9]))
		}, "not the one that the header tells of"},
	} {
		if err := c.do(t); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestWriteFails shows that a disk that is full ends the writing.
func TestWriteFails(t *testing.T) {
	full := errors.New("no room")
	w, err := archive.NewWriter(&failing{left: 300, err: full}, archive.Header{From: 1, To: 2000})
	if err == nil {
		err = errors.Join(w.Append(history(2000)), w.Close())
	}
	if !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

type failing struct {
	left int
	err  error
}

func (f *failing) Write(p []byte) (int, error) {
	if len(p) > f.left {
		return 0, f.err
	}
	f.left -= len(p)
	return len(p), nil
}
