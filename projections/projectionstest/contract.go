package projectionstest

import (
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Reader checks an implementation of projections.Reader. open returns one over
// the entries.
func Reader(t *testing.T, open func(t *testing.T, entries []*projections.Entry) projections.Reader) {
	t.Run("nothing", func(t *testing.T) {
		r := open(t, nil)
		Consistent(t, r)
		if r.Get(Pod("a", "b")) != nil || count(r.OnNode("")) != 0 || count(r.Owned("u")) != 0 || count(r.List("", "pods", "")) != 0 {
			t.Error("an empty reader has objects")
		}
	})
	t.Run("a thousand objects", func(t *testing.T) {
		h := Random(11, 3000)
		s := projections.NewState()
		if _, err := s.Fold(h.Events); err != nil {
			t.Fatal(err)
		}
		var entries []*projections.Entry
		for _, e := range All(s.View()) {
			entries = append(entries, projections.NewEntry(e.Ref, e.UID, e.Created, e.Sequence, e.Raw))
		}
		for i := range 1000 {
			ref := Pod(fmt.Sprintf("many%d", i%7), fmt.Sprintf("p%d", i))
			entries = append(entries, projections.NewEntry(ref, fmt.Sprintf("m%d", i), 1, 2, fmt.Appendf(nil, `{"spec":{"nodeName":"n%d"}}`, i%3)))
		}
		r := open(t, entries)
		Consistent(t, r)
		if n := len(All(r)); n != len(entries) {
			t.Errorf("%d objects of %d", n, len(entries))
		}
		for _, e := range entries {
			if got := r.Get(e.Ref); got == nil || got.Line() != e.Line() {
				t.Fatalf("%s is not what was put", e.Ref)
			}
		}
	})
	t.Run("names that begin alike", func(t *testing.T) {
		var entries []*projections.Entry
		for _, ref := range []events.Ref{
			{Resource: "pods", Namespace: "a", Name: "b"}, {Resource: "pods", Namespace: "a", Name: "b-c"}, {Resource: "pods", Namespace: "a-b", Name: "a"},
			{Resource: "podsets", Namespace: "a", Name: "b"}, {Group: "apps", Resource: "pods", Namespace: "a", Name: "b"}, {Resource: "nodes", Name: "a"},
		} {
			entries = append(entries, projections.NewEntry(ref, ref.String(), 1, 1, []byte(`{}`)))
		}
		r := open(t, entries)
		Consistent(t, r)
		if n := count(r.List("", "pods", "a")); n != 2 {
			t.Errorf("namespace a has %d pods, want 2", n)
		}
		if n := count(r.List("", "pods", "")); n != 3 {
			t.Errorf("there are %d pods, want 3", n)
		}
	})
}

// Consistent checks that all ways to look at a reader show the same objects, in
// the same order.
func Consistent(t *testing.T, r projections.Reader) {
	t.Helper()
	owned, nodes := map[string][]events.Ref{}, map[string][]events.Ref{}
	namespaces := map[events.Ref][]events.Ref{}
	all := All(r)
	if !slices.IsSortedFunc(all, func(a, b *projections.Entry) int { return a.Ref.Compare(b.Ref) }) {
		t.Error("the objects are not in order")
	}
	for _, e := range all {
		if r.Get(e.Ref) != e {
			t.Errorf("%s is listed and is not what Get returns", e.Ref)
		}
		in := events.Ref{Group: e.Ref.Group, Resource: e.Ref.Resource, Namespace: e.Ref.Namespace}
		if e.Ref.Namespace != "" {
			namespaces[in] = append(namespaces[in], e.Ref)
		}
		for _, o := range e.Meta().OwnerReferences {
			if uid := string(o.UID); !slices.Contains(owned[uid], e.Ref) {
				owned[uid] = append(owned[uid], e.Ref)
			}
		}
		if e.Ref.Resource == "pods" && e.Ref.Group == "" {
			pod := projections.As[struct {
				Spec struct {
					NodeName string `json:"nodeName"`
				} `json:"spec"`
			}](e)
			nodes[pod.Spec.NodeName] = append(nodes[pod.Spec.NodeName], e.Ref)
		}
	}
	for in, want := range namespaces {
		expect(t, "namespace "+in.String(), r.List(in.Group, in.Resource, in.Namespace), want)
	}
	for uid, want := range owned {
		expect(t, "owned by "+uid, r.Owned(uid), want)
	}
	for node, want := range nodes {
		expect(t, "on node "+node, r.OnNode(node), want)
	}
}

// All lists every object of a reader.
func All(r projections.Reader) (all []*projections.Entry) {
	for resource := range r.Resources() {
		all = slices.AppendSeq(all, r.List(resource.Group, resource.Resource, ""))
	}
	return all
}

func expect(t *testing.T, what string, got iter.Seq[*projections.Entry], want []events.Ref) {
	t.Helper()
	var refs []events.Ref
	for e := range got {
		refs = append(refs, e.Ref)
	}
	if !slices.Equal(refs, want) {
		t.Errorf("%s: %v, want %v", what, refs, want)
	}
}

func count(s iter.Seq[*projections.Entry]) (n int) {
	for range s {
		n++
	}
	return n
}

// AsCreations returns the events that create entries one after the other, with
// what they change. The entries come to bear the sequences of these.
func AsCreations(entries []*projections.Entry) ([]events.Event, []projections.Change) {
	batch := make([]events.Event, len(entries))
	changes := make([]projections.Change, len(entries))
	for i, e := range entries {
		e.Created, e.Sequence, e.Version = uint64(i+1), uint64(i+1), 1
		batch[i] = events.Event{Sequence: e.Sequence, Type: "object.created", Object: e.Ref, UID: e.UID, Data: e.Raw}
		changes[i] = projections.Change{Event: &batch[i], After: e}
	}
	return batch, changes
}
