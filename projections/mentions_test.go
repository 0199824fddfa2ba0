package projections_test

import (
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// A change is said to mention a path unless its patch shows that it does not.
func TestMentions(t *testing.T) {
	paths := [][]byte{[]byte(`"/spec`), []byte(`"/status"`)}
	e := &projections.Entry{}
	for _, c := range []struct {
		data          string
		before, after *projections.Entry
		want          bool
	}{
		{`[{"op":"add","path":"/spec/nodeName","value":"n1"}]`, e, e, true},
		{`[{"op":"replace","path":"/status","value":{}}]`, e, e, true},
		{`[{"op":"replace","path":"/status/phase","value":"Running"}]`, e, e, false},
		{`[{"op":"add","path":"/\u0073pec/nodeName","value":"n1"}]`, e, e, true},
		{`{"metadata":{}}`, e, e, true},
		{`[{"op":"replace","path":"/status/phase","value":"Running"}]`, nil, e, true},
		{``, e, nil, true},
	} {
		change := projections.Change{Event: &events.Event{Data: []byte(c.data)}, Before: c.before, After: c.after}
		if got := change.Mentions(paths); got != c.want {
			t.Errorf("%s from %v to %v: %t", c.data, c.before != nil, c.after != nil, got)
		}
	}
}
