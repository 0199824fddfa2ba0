package feed

import (
	"slices"
	"strings"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// audience knows which of the connected nodes may know which objects, and keeps
// that up to date as the cluster changes. What a node may know is what can be
// reached from its roots and its pods by Needs; that graph has no cycles, so it
// is counted. The work for a change depends on how many nodes know its object,
// not on how many there are.
type audience struct {
	members map[string]*member
	// wanters are the members by what they want.
	wanters map[events.Ref]map[*member]bool
	// folded is up to where the members have been told of changes.
	folded uint64
}

// member is what one node may know.
type member struct {
	node    string
	network bool
	// joined is the sequence of the view that the member began with: changes up
	// to there do not concern it.
	joined uint64
	// wants counts the reasons for each thing to be known; edges are those that
	// each gives in turn.
	wants map[events.Ref]int
	edges map[events.Ref][]events.Ref
	// sent is what the node has been told, by the object's sequence.
	sent map[events.Ref]uint64
	// dirty is what has to be looked at before the next message.
	dirty refSet
}

// delta is what a node has to be told.
type delta struct {
	puts    []*projections.Entry
	removes []events.Ref
}

func (d delta) empty() bool { return len(d.puts) == 0 && len(d.removes) == 0 }

// lookup is how the objects stand.
type lookup func(events.Ref) *projections.Entry

func newAudience() *audience {
	return &audience{members: map[string]*member{}, wanters: map[events.Ref]map[*member]bool{}}
}

// join adds a node, or starts it anew, and returns all that it may know.
func (a *audience) join(view projections.Reader, node string, network bool) delta {
	a.leave(node)
	m := &member{
		node: node, network: network, joined: view.Sequence(),
		wants: map[events.Ref]int{}, edges: map[events.Ref][]events.Ref{}, sent: map[events.Ref]uint64{},
	}
	a.members[node] = m
	for _, r := range roots(node, network) {
		a.want(m, r, view.Get)
	}
	for pod := range view.OnNode(node) {
		a.want(m, pod.Ref, view.Get)
	}
	return m.settle(view, view.Get)
}

// told is up to where the node knows all that it may.
func (a *audience) told(node string) uint64 { return max(a.folded, a.members[node].joined) }

func (a *audience) leave(node string) {
	m := a.members[node]
	if m == nil {
		return
	}
	delete(a.members, node)
	for r := range m.wants {
		delete(a.wanters[r], m)
		if len(a.wanters[r]) == 0 {
			delete(a.wanters, r)
		}
	}
}

// fold returns what each node has to be told of changes, which are consecutive.
// view has folded them, and may have folded more.
func (a *audience) fold(view projections.Reader, changes []projections.Change) map[string]delta {
	latest := make(map[events.Ref]projections.Change, len(changes))
	for _, c := range changes {
		latest[c.Event.Object] = c
	}
	touched := map[*member]bool{}
	for _, c := range changes {
		for _, m := range a.concerned(c) {
			if c.Event.Sequence <= m.joined {
				continue
			}
			touched[m] = true
			get := m.lookup(view, latest)
			if isPod(c.Event.Object) {
				a.pod(m, c.Event.Object, get)
			}
			m.dirty.add(c.Event.Object)
			if !isStatus(c) {
				a.revisit(m, c.Event.Object, get)
			}
		}
	}
	out := map[string]delta{}
	for m := range touched {
		if d := m.settle(view, m.lookup(view, latest)); !d.empty() {
			out[m.node] = d
		}
	}
	if n := len(changes); n > 0 {
		a.folded = max(a.folded, changes[n-1].Event.Sequence)
	}
	return out
}

// lookup sees the objects as the changes leave them, so that a member is not told
// of what it will be told again.
func (m *member) lookup(view projections.Reader, latest map[events.Ref]projections.Change) lookup {
	return func(r events.Ref) *projections.Entry {
		if c, ok := latest[r]; ok && c.Event.Sequence > m.joined {
			return c.After
		}
		return view.Get(r)
	}
}

// concerned returns the members that know the object or are to know it.
func (a *audience) concerned(c projections.Change) []*member {
	ref := c.Event.Object
	var out []*member
	for _, r := range covers(ref) {
		for m := range a.wanters[r] {
			if !slices.Contains(out, m) {
				out = append(out, m)
			}
		}
	}
	if isPod(ref) && c.After != nil {
		if m := a.members[c.After.Node()]; m != nil && !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out
}

// isStatus says whether the change is of a status alone: most are, and what an object
// refers to is never part of one.
func isStatus(c projections.Change) bool {
	if c.Before == nil || c.After == nil || !isPod(c.Event.Object) {
		return false
	}
	ops, err := events.ParsePatch(c.Event.Data)
	return err == nil && !slices.ContainsFunc(ops, func(op events.Op) bool { return !strings.HasPrefix(op.Path, "/status") })
}

// covers returns what may be wanted that includes an object.
func covers(r events.Ref) [3]events.Ref {
	return [3]events.Ref{r, {Group: r.Group, Resource: r.Resource, Namespace: r.Namespace}, {Group: r.Group, Resource: r.Resource}}
}

func isPod(r events.Ref) bool { return r.Group == "" && r.Resource == "pods" }

// pod makes a pod wanted if and only if it is bound to the member's node.
func (a *audience) pod(m *member, ref events.Ref, get lookup) {
	e := get(ref)
	bound := e != nil && e.Node() == m.node
	switch {
	case bound && m.wants[ref] == 0:
		a.want(m, ref, get)
	case !bound && m.wants[ref] > 0:
		a.unwant(m, ref)
	}
}

func (a *audience) want(m *member, r events.Ref, get lookup) {
	m.wants[r]++
	if m.wants[r] > 1 {
		return
	}
	if a.wanters[r] == nil {
		a.wanters[r] = map[*member]bool{}
	}
	a.wanters[r][m] = true
	m.dirty.add(r)
	a.revisit(m, r, get)
}

func (a *audience) unwant(m *member, r events.Ref) {
	m.wants[r]--
	if m.wants[r] > 0 {
		return
	}
	delete(m.wants, r)
	delete(a.wanters[r], m)
	if len(a.wanters[r]) == 0 {
		delete(a.wanters, r)
	}
	m.dirty.add(r)
	for _, next := range m.edges[r] {
		a.unwant(m, next)
	}
	delete(m.edges, r)
}

// revisit follows what a wanted object refers to, now that it has changed.
func (a *audience) revisit(m *member, r events.Ref, get lookup) {
	if m.wants[r] == 0 || r.Name == "" {
		return
	}
	before, after := m.edges[r], Needs(get(r))
	if slices.Equal(before, after) {
		return
	}
	m.edges[r] = after
	for _, next := range after {
		a.want(m, next, get)
	}
	for _, next := range before {
		a.unwant(m, next)
	}
}

func (m *member) mayKnow(r events.Ref) bool {
	for _, c := range covers(r) {
		if m.wants[c] > 0 {
			return true
		}
	}
	return false
}

// settle returns what has to be told of the dirty objects, in the order of their
// references.
func (m *member) settle(view projections.Reader, get lookup) delta {
	var look refSet
	for _, r := range m.dirty.refs {
		if r.Name != "" {
			look.add(r)
			continue
		}
		for e := range view.List(r.Group, r.Resource, r.Namespace) {
			look.add(e.Ref)
		}
		for known := range m.sent {
			if wide := covers(known); slices.Contains(wide[1:], r) {
				look.add(known)
			}
		}
	}
	m.dirty = refSet{}
	slices.SortFunc(look.refs, events.Ref.Compare)
	var d delta
	for _, r := range look.refs {
		var e *projections.Entry
		if m.mayKnow(r) {
			e = get(r)
		}
		at, known := m.sent[r]
		switch {
		case e == nil && known:
			delete(m.sent, r)
			d.removes = append(d.removes, r)
		case e != nil && (!known || at < e.Sequence):
			m.sent[r] = e.Sequence
			d.puts = append(d.puts, e)
		}
	}
	return d
}
