package sim

import (
	"time"

	"github.com/reprise-run/reprise/agents/runner"
)

// again asks a decider a second time, now and then, and expects the same answer:
// replay rests on that, and names that can be given twice.
type again struct {
	runner.Decider
	w *world
}

// Setup implements runner.Tuned.
func (d again) Setup() []byte {
	if t, ok := d.Decider.(runner.Tuned); ok {
		return t.Setup()
	}
	return nil
}

// Decide implements runner.Decider.
func (d again) Decide(v runner.View, item runner.Item, now time.Time) runner.Result {
	first := d.Decider.Decide(v, item, now)
	if d.w.chance(60) {
		second := d.Decider.Decide(v, item, now)
		if first.Digest() != second.Digest() || !first.Wake.Equal(second.Wake) {
			d.w.fail("deciders are pure", "%s, asked about %s again, decides otherwise", d.Actor(), item.Ref)
		}
		if e := v.Get(item.Ref); e != nil {
			d.w.intact(e)
		}
	}
	return first
}
