package pebble_test

import (
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

func TestNames(t *testing.T) {
	h := projectionstest.Random(5, 1000)
	// Names that begin alike, an object in no namespace, and a resource after all.
	for _, ref := range []events.Ref{
		{Resource: "pods", Namespace: "ns", Name: "o1"}, {Resource: "pods", Namespace: "ns1-a", Name: "o1"},
		{Resource: "pods", Namespace: "ns1-a", Name: "o10-b"}, {Resource: "nodes", Name: "o1"}, {Resource: "nodes", Name: "o"},
		{Group: "zoo", Resource: "zebras", Namespace: "ns1", Name: "o1"},
	} {
		h.Create(ref, `{"metadata":{}}`)
	}
	s := open(t, vfs.NewMem())
	defer s.Close()
	fill(t, s, h.Events, 100)
	var resources []events.Ref
	for _, e := range h.Events {
		resources = append(resources, events.Ref{Group: e.Object.Group, Resource: e.Object.Resource})
	}
	resources = ordered(resources)
	if got, err := s.Resources(t.Context()); err != nil || !slices.Equal(got, resources) {
		t.Errorf("the resources are %v, want %v: %v", got, resources, err)
	}
	for _, r := range append(resources, events.Ref{Resource: "unicorns"}) {
		for _, name := range []string{"o", "o1", "o19", "o2", "o10-b", "d3", "", "zzz"} {
			var want []events.Ref
			for _, e := range h.Events {
				if o := e.Object; o.Group == r.Group && o.Resource == r.Resource && o.Name == name {
					want = append(want, o)
				}
			}
			want = ordered(want)
			if got, err := s.Named(t.Context(), r.Group, r.Resource, name); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s %q: %v, want %v: %v", r.GroupResource(), name, got, want, err)
			}
		}
	}
}

func ordered(refs []events.Ref) []events.Ref {
	slices.SortFunc(refs, events.Ref.Compare)
	return slices.Compact(refs)
}
