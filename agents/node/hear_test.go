package node

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/reprise-run/reprise/projections"
)

// A worker looks again when a version of its pod comes that it has not seen, or when
// anything else is new, and not because of what it told itself.
func TestAWorkerKnowsWhatItTold(t *testing.T) {
	a := &Agent{workers: map[types.UID]*worker{}}
	version := func(sequence uint64) *projections.Entry {
		return projections.NewEntry(podRef("shop", "web"), "u", 1, sequence, []byte("{}"))
	}
	a.hear(version(3))
	w := a.workers["u"]
	for _, c := range []struct {
		what string
		do   func()
		want int
	}{
		{"it is new", func() {}, 1},
		{"it looks", func() { a.looks(w); a.saw(w, 3) }, 0},
		{"it is told of what it has seen", func() { a.hear(version(3)) }, 0},
		{"it hears of another's version", func() { a.hear(version(4)) }, 1},
		{"that is seen before it looks", func() { a.saw(w, 4) }, 0},
		{"it has told something", func() { a.saw(w, 7) }, 0},
		{"that comes", func() { a.hear(version(7)) }, 0},
		{"what it has told comes before the answer", func() { a.hear(version(9)) }, 1},
		{"the answer comes", func() { a.saw(w, 9) }, 0},
		{"the runtime has news", func() { a.kick("u") }, 1},
		{"and it has told something meanwhile", func() { a.saw(w, 11); a.hear(version(11)) }, 1},
		{"it looks again", func() { a.looks(w) }, 0},
		{"the log is restored to before what it told", func() { a.hear(version(5)) }, 1},
		{"it looks at that", func() { a.looks(w); a.saw(w, 5) }, 0},
		{"it tells again", func() { a.saw(w, 8); a.hear(version(8)) }, 0},
	} {
		c.do()
		if got := len(w.kicked); got != c.want {
			t.Errorf("%s: it is to look %d times, want %d", c.what, got, c.want)
		}
	}
}
