package projections_test

import (
	"reflect"
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

// builds checks that a Builder which begins with a state makes of a batch what
// Fold has made of it, be it an error.
func builds(t *testing.T, from projections.Reader, batch []events.Event, changes []projections.Change, failed error) {
	t.Helper()
	if len(batch) == 0 || batch[0].Sequence <= from.Sequence() {
		return // A Builder is given nothing twice.
	}
	before := dump(t, from)
	b := projections.NewBuilder(projectionstest.All(from), from.Sequence())
	outcomes, err := b.Fold(batch)
	if dump(t, from) != before {
		t.Error("a Builder has changed what it was given")
	}
	switch {
	case failed == nil && err == nil:
		if want := projections.Outcomes(batch, changes); !reflect.DeepEqual(outcomes, want) {
			t.Errorf("a Builder says that\n%+v\ncame of the events, and not\n%+v", outcomes, want)
		}
	case failed == nil || err == nil || failed.Error() != err.Error():
		t.Errorf("a Builder fails with %v, and not with %v", err, failed)
	default:
		if _, again := b.Fold(nil); again == nil {
			t.Error("a Builder goes on after an error")
		}
	}
}

// Keyframes are as they were, whatever comes after them.
func TestBuilderKeepsFrames(t *testing.T) {
	h := projectionstest.Random(5, 2000)
	s, b := projections.NewState(), projections.NewBuilder(nil, 0)
	changes, err := s.Fold(h.Events)
	if err != nil {
		t.Fatal(err)
	}
	outcomes, err := b.Fold(h.Events)
	if err != nil {
		t.Fatal(err)
	}
	want, frames := projections.Outcomes(h.Events, changes), 0
	for i, o := range outcomes {
		if !reflect.DeepEqual(o, want[i]) {
			t.Fatalf("of event %d came\n%+v\nand not\n%+v", i+1, o, want[i])
		}
		if o.Whole != nil {
			frames++
		}
	}
	if frames < 5 {
		t.Errorf("there are %d keyframes", frames)
	}
	built := b.State()
	if got := dump(t, built.View()); got != dump(t, s.View()) {
		t.Error("the state comes out otherwise")
	}
	projectionstest.Consistent(t, built.View())
}
