package costs

import (
	"bytes"
	"math"
	"testing"

	"github.com/google/pprof/profile"
)

// A sample counts for the innermost part, but for what is looked for anywhere.
func TestOf(t *testing.T) {
	const ours = "github.com/reprise-run/reprise/"
	p := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType: &profile.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: 1,
	}
	add := func(took int64, names ...string) {
		s := &profile.Sample{Value: []int64{1, took}}
		for _, name := range names {
			f := &profile.Function{ID: uint64(len(p.Function) + 1), Name: name}
			l := &profile.Location{ID: f.ID, Line: []profile.Line{{Function: f}}}
			p.Function, p.Location, s.Location = append(p.Function, f), append(p.Location, l), append(s.Location, l)
		}
		p.Sample = append(p.Sample, s)
	}
	add(40, "encoding/json.checkValid", ours+"events.Canonical", ours+"agents/runner.(*loop).do")
	add(30, "runtime.scanobject", "runtime.gcAssistAlloc", ours+"agents/scheduler.(*Scheduler).Decide")
	add(20, "bytes.Equal", ours+"agents/controllers/replicaset.look", ours+"agents/runner.(*loop).decide")
	add(10, "runtime.futex")
	var encoded bytes.Buffer
	if err := p.Write(&encoded); err != nil {
		t.Fatal(err)
	}
	parts, err := Of(&encoded)
	want := []Part{{"runner: what concerns whom, and when", 0.4}, {"garbage collection", 0.3}, {"controllers", 0.2}, {"Go's own scheduler and system calls", 0.1}}
	if err != nil || len(parts) != len(want) {
		t.Fatalf("%v: %v", parts, err)
	}
	for i, p := range parts {
		if p.Name != want[i].Name || math.Abs(p.Share-want[i].Share) > 1e-9 {
			t.Errorf("part %d is %+v, want %+v", i, p, want[i])
		}
	}
}
