package projections_test

import (
	"strings"
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

// What changes an object as a whole need not be asked for by a path: no fold takes it.
func TestNoPatchIsOfTheWholeObject(t *testing.T) {
	pod := events.Ref{Resource: "pods", Namespace: "shop", Name: "web"}
	for _, patch := range []string{
		`[{"op":"replace","path":"","value":{}}]`,
		`[{"op":"add", "path" : "" ,"value":{}}]`,
		`[{"op":"replace","path":"/spec/priority","value":1},{"op":"replace","path":"","value":{}}]`,
	} {
		s := projections.NewState()
		s.Put(projections.NewEntry(pod, "u", 1, 1, []byte(`{"kind":"Pod"}`)))
		s.StartAt(1)
		if _, err := s.Fold([]events.Event{{Sequence: 2, Type: "pod.updated", Object: pod, UID: "u", Actor: events.Actor{Kind: "api"}, Data: []byte(patch)}}); err == nil || !strings.Contains(err.Error(), "whole object") {
			t.Errorf("%s is folded: %v", patch, err)
		}
	}
}
