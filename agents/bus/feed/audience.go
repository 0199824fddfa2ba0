package feed

import (
	"bytes"
	"slices"

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
	wanters map[events.Ref][]*member
	// wide is how much of a resource is wanted as a whole, or in a namespace.
	wide map[resource]int
	// needs are those that were shared last: pods of one template need the same, and most
	// come one after the other.
	needs *needs
	// folded is up to where the members have been told of changes.
	folded uint64
}

// resource is the kind of an object.
type resource struct{ group, name string }

func resourceOf(r events.Ref) resource { return resource{r.Group, r.Resource} }

// member is what one node may know.
type member struct {
	node    string
	network bool
	// joined is the sequence of the view that the member began with: changes up
	// to there do not concern it.
	joined uint64
	// stakes are in what it may know, and in what it has been told.
	stakes map[events.Ref]*stake
	// reasons counts what it may know that has these needs. They are compared by where they
	// lie: those that are alike and not shared count apart.
	reasons map[*needs]int
	// dirty is what has to be looked at before the next message, some of it twice.
	dirty []events.Ref
}

// stake is what a member has to do with an object, or with all of a resource.
type stake struct {
	// reasons counts why it may be known; needs are what it is a reason for in turn, nil
	// for none.
	reasons int
	needs   *needs
	// sent is the sequence of the object as the node has been told of it, or 0.
	sent uint64
}

// needs are what an object that is known is a reason to know. They are not empty.
type needs []events.Ref

// stake returns the member's stake in something, which may be a new one.
func (m *member) stake(r events.Ref) *stake {
	s := m.stakes[r]
	if s == nil {
		s = &stake{}
		m.stakes[r] = s
	}
	return s
}

// wants says whether there is a reason why the member may know something.
func (m *member) wants(r events.Ref) bool {
	s := m.stakes[r]
	return s != nil && s.reasons > 0
}

// tidy drops a stake that is none any more.
func (m *member) tidy(r events.Ref, s *stake) {
	if s.reasons == 0 && s.sent == 0 {
		delete(m.stakes, r)
	}
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
	return &audience{members: map[string]*member{}, wanters: map[events.Ref][]*member{}, wide: map[resource]int{}}
}

// join adds a node, or starts it anew, and returns all that it may know.
func (a *audience) join(view projections.Reader, node string, network bool) delta {
	a.leave(node)
	m := &member{node: node, network: network, joined: view.Sequence(), stakes: map[events.Ref]*stake{}, reasons: map[*needs]int{}}
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
	for r, s := range m.stakes {
		if s.reasons > 0 {
			a.forget(m, r)
		}
	}
}

// forget takes a member out of those who want something.
func (a *audience) forget(m *member, r events.Ref) {
	if r.Name == "" {
		a.wide[resourceOf(r)]--
	}
	all := a.wanters[r]
	at := slices.Index(all, m)
	all[at] = all[len(all)-1]
	all[len(all)-1] = nil
	if all = all[:len(all)-1]; len(all) == 0 {
		delete(a.wanters, r)
	} else {
		a.wanters[r] = all
	}
}

// fold returns what each node has to be told of changes, which are consecutive.
// view has folded them, and may have folded more.
func (a *audience) fold(view projections.Reader, changes []projections.Change) map[string]delta {
	latest := make(map[events.Ref]outcome, len(changes))
	for _, c := range changes {
		o, again := latest[c.Event.Object]
		if !again {
			o.since, o.Before = c.Event.Sequence, c.Before
		}
		o.Event, o.After = c.Event, c.After
		latest[c.Event.Object] = o
	}
	var touched []*member
	for _, c := range changes {
		o := latest[c.Event.Object]
		if o.Event != c.Event {
			continue // What it led to is seen with the last change of the object.
		}
		for _, m := range a.concerned(o.Change) {
			if c.Event.Sequence <= m.joined {
				continue
			}
			if len(m.dirty) == 0 {
				touched = append(touched, m)
			}
			a.see(m, o, m.lookup(view, latest))
		}
	}
	out := make(map[string]delta, len(touched))
	for _, m := range touched {
		if d := m.settle(view, m.lookup(view, latest)); !d.empty() {
			out[m.node] = d
		}
	}
	if n := len(changes); n > 0 {
		a.folded = max(a.folded, changes[n-1].Event.Sequence)
	}
	return out
}

// outcome is what some changes of one object come to: the last of them, from before the
// first, which was at the sequence since.
type outcome struct {
	projections.Change
	since uint64
}

// see has a member that is concerned by what became of an object look at it.
func (a *audience) see(m *member, o outcome, get lookup) {
	ref := o.Event.Object
	m.dirty = append(m.dirty, ref)
	if isPod(ref) {
		if newly := a.pod(m, ref, get); newly || o.since > m.joined && isStatus(o.Change) {
			return
		}
	}
	a.revisit(m, ref, get)
}

// lookup sees the objects as the changes leave them, so that a member is not told
// of what it will be told again.
func (m *member) lookup(view projections.Reader, latest map[events.Ref]outcome) lookup {
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
	out := slices.Clone(a.wanters[ref])
	if a.wide[resourceOf(ref)] > 0 {
		covers := covers(ref)
		for _, r := range covers[1:] {
			for _, m := range a.wanters[r] {
				if !slices.Contains(out, m) {
					out = append(out, m)
				}
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

// isStatus says whether a change of a pod leaves its spec as it is: most do, and what a pod
// refers to is part of nothing else.
func isStatus(c projections.Change) bool {
	return c.Before != nil && c.After != nil && bytes.Equal(c.Before.Lookup("spec"), c.After.Lookup("spec"))
}

// covers returns what may be wanted that includes an object.
func covers(r events.Ref) [3]events.Ref {
	return [3]events.Ref{r, {Group: r.Group, Resource: r.Resource, Namespace: r.Namespace}, {Group: r.Group, Resource: r.Resource}}
}

func isPod(r events.Ref) bool { return r.Group == "" && r.Resource == "pods" }

// pod makes a pod wanted if and only if it is bound to the member's node, and says whether
// it newly is.
func (a *audience) pod(m *member, ref events.Ref, get lookup) (newly bool) {
	e := get(ref)
	bound, wanted := e != nil && e.Node() == m.node, m.wants(ref)
	switch {
	case bound && !wanted:
		a.want(m, ref, get)
	case !bound && wanted:
		a.unwant(m, ref)
	}
	return bound && !wanted
}

func (a *audience) want(m *member, r events.Ref, get lookup) {
	s := m.stake(r)
	s.reasons++
	if s.reasons > 1 {
		return
	}
	a.wanters[r] = append(a.wanters[r], m)
	if r.Name == "" {
		a.wide[resourceOf(r)]++
	}
	m.dirty = append(m.dirty, r)
	a.revisit(m, r, get)
}

func (a *audience) unwant(m *member, r events.Ref) {
	s := m.stake(r)
	s.reasons--
	if s.reasons > 0 {
		return
	}
	a.forget(m, r)
	m.dirty = append(m.dirty, r)
	had := s.needs
	s.needs = nil
	m.tidy(r, s)
	a.drop(m, had)
}

// hold makes needs of one more object a reason to know them.
func (a *audience) hold(m *member, n *needs, get lookup) {
	if n == nil {
		return
	}
	if m.reasons[n]++; m.reasons[n] > 1 {
		return
	}
	for _, r := range *n {
		a.want(m, r, get)
	}
}

// drop takes away what hold has made a reason.
func (a *audience) drop(m *member, n *needs) {
	if n == nil {
		return
	}
	if m.reasons[n]--; m.reasons[n] > 0 {
		return
	}
	delete(m.reasons, n)
	for _, r := range *n {
		a.unwant(m, r)
	}
}

// revisit follows what a wanted object refers to, now that it has changed.
func (a *audience) revisit(m *member, r events.Ref, get lookup) {
	s := m.stakes[r]
	if s == nil || s.reasons == 0 || r.Name == "" {
		return
	}
	before, found := s.needs, Needs(get(r))
	if before == nil && len(found) == 0 || before != nil && slices.Equal(*before, found) {
		return
	}
	s.needs = a.share(found)
	a.hold(m, s.needs, get)
	a.drop(m, before)
}

// share returns needs as those that were shared last, if they are the same; nil for none.
func (a *audience) share(found []events.Ref) *needs {
	if len(found) == 0 {
		return nil
	}
	if a.needs == nil || !slices.Equal(found, *a.needs) {
		a.needs = new(needs)
		*a.needs = found
	}
	return a.needs
}

func (m *member) mayKnow(r events.Ref) bool {
	for _, c := range covers(r) {
		if m.wants(c) {
			return true
		}
	}
	return false
}

// settle returns what has to be told of the dirty objects, in the order of their
// references.
func (m *member) settle(view projections.Reader, get lookup) delta {
	var look []events.Ref
	for _, r := range m.dirty {
		if r.Name != "" {
			look = append(look, r)
			continue
		}
		for e := range view.List(r.Group, r.Resource, r.Namespace) {
			look = append(look, e.Ref)
		}
		for known, s := range m.stakes {
			if wide := covers(known); s.sent > 0 && slices.Contains(wide[1:], r) {
				look = append(look, known)
			}
		}
	}
	m.dirty = nil
	slices.SortFunc(look, events.Ref.Compare)
	look = slices.Compact(look)
	var d delta
	for _, r := range look {
		var e *projections.Entry
		if m.mayKnow(r) {
			e = get(r)
		}
		s := m.stakes[r]
		switch {
		case e == nil && s != nil && s.sent > 0:
			s.sent = 0
			m.tidy(r, s)
			d.removes = append(d.removes, r)
		case e != nil && (s == nil || s.sent < e.Sequence):
			m.stake(r).sent = e.Sequence
			d.puts = append(d.puts, e)
		}
	}
	return d
}
