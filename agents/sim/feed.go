package sim

import (
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// session is one node's feed at a server: numbered messages of whole objects.
type session struct {
	node    *node
	epoch   uint64
	number  uint64
	arrived time.Duration // when the last message arrives: they stay in order
}

// message is one step of a feed.
type message struct {
	epoch, number, sequence uint64
	reset                   bool
	puts                    []*projections.Entry
	removes                 []events.Ref
}

// concernsNode says whether a node may know of an object.
func concernsNode(node string, e *projections.Entry) bool {
	switch {
	case e == nil:
		return false
	case e.Ref.Resource == "nodes":
		return e.Ref.Name == node
	}
	return e.Ref.Resource == "pods" && nodeOf(e) == node
}

func nodeOf(e *projections.Entry) string {
	node, _ := events.Text(events.Lookup(e.Raw, "spec", "nodeName"))
	return node
}

// feed tells the nodes what has changed.
func (s *server) feed(changes []projections.Change) {
	for _, n := range s.w.nodes {
		x := s.feeds[n.name]
		if x == nil {
			continue
		}
		m := message{sequence: s.view.Sequence()}
		for _, c := range changes {
			switch {
			case concernsNode(n.name, c.After):
				m.puts = append(m.puts, c.After)
				m.removes = remove(m.removes, c.After.Ref)
			case s.w.bugs.FeedKeeps:
			case concernsNode(n.name, c.Before):
				m.removes = append(remove(m.removes, c.Before.Ref), c.Before.Ref)
			}
		}
		if len(m.puts)+len(m.removes) > 0 {
			s.tell(x, m)
		}
	}
}

func remove(list []events.Ref, r events.Ref) []events.Ref {
	for i := range list {
		if list[i] == r {
			return append(list[:i:i], list[i+1:]...)
		}
	}
	return list
}

func (s *server) tell(x *session, m message) {
	x.number++
	m.epoch, m.number = x.epoch, x.number
	n := x.node
	s.sendInOrder(&n.host, &x.arrived, func() { n.take(m) })
}

// begin starts a node's feed anew.
func (s *server) begin(n *node, epoch uint64) {
	x := &session{node: n, epoch: epoch}
	s.feeds[n.name] = x
	m := message{sequence: s.view.Sequence(), reset: true}
	if e := s.view.Get(events.Ref{Resource: "nodes", Name: n.name}); e != nil {
		m.puts = append(m.puts, e)
	}
	for e := range s.view.OnNode(n.name) {
		m.puts = append(m.puts, e)
	}
	s.tell(x, m)
}

// progress says how far a node's feed is, once it is as far as asked for.
func (s *server) progress(n *node, epoch, sequence uint64) {
	s.host.begin(func() {
		if s.view.Sequence() < sequence {
			folded := &bell{}
			s.waiting = append(s.waiting, waiting{sequence, folded})
			s.w.await(folded)
		}
		x := s.feeds[n.name]
		known := x != nil && x.epoch == epoch
		var number uint64
		at := s.view.Sequence()
		if known {
			number = x.number
			s.sendInOrder(&n.host, &x.arrived, func() { n.heard(epoch, number, at, true) })
			return
		}
		s.send(&n.host, func() { n.heard(epoch, 0, at, false) })
	})
}

// subscribe asks a server for a feed from the beginning.
func (n *node) subscribe() {
	w := n.w
	w.epochs++
	n.epoch, n.number = w.epochs, 0
	n.server = w.servers[w.random.IntN(len(w.servers))]
	epoch, s := n.epoch, n.server
	sequence := n.view.Sequence()
	n.send(&s.host, func() {
		s.host.begin(func() {
			if s.view.Sequence() < sequence {
				folded := &bell{}
				s.waiting = append(s.waiting, waiting{sequence, folded})
				w.await(folded)
			}
			s.begin(n, epoch)
		})
	})
	n.after(w.between(900*time.Millisecond, 1100*time.Millisecond), func() {
		if n.epoch == epoch && n.number == 0 {
			n.subscribe()
		}
	})
}

// take applies a message of the feed, or begins anew where one is missing.
func (n *node) take(m message) {
	switch {
	case m.epoch != n.epoch:
		return
	case m.number != n.number+1:
		n.subscribe()
		return
	}
	n.number++
	known := map[events.Ref]bool{}
	var changed []*projections.Entry
	for _, e := range m.puts {
		known[e.Ref] = true
		if before := n.view.Get(e.Ref); before == nil || before.Sequence != e.Sequence || before.UID != e.UID {
			if before != nil && before.UID != e.UID {
				changed = append(changed, before)
			}
			n.mirror.Put(e)
			changed = append(changed, e)
		}
	}
	drop := m.removes
	if m.reset {
		for resource := range n.view.Resources() {
			for e := range n.view.List(resource.Group, resource.Resource, "") {
				if !known[e.Ref] {
					drop = append(drop, e.Ref)
				}
			}
		}
	}
	for _, r := range drop {
		n.mirror.Remove(r)
		if before := n.view.Get(r); before != nil {
			changed = append(changed, before)
		}
	}
	n.show(max(m.sequence, n.view.Sequence()))
	for _, e := range changed {
		if e.Ref.Resource == "pods" {
			n.see(e.UID, e.Ref)
		}
	}
	if m.reset && !n.ready {
		n.ready = true
		n.began.ring()
	}
}

// heard takes in how far the feed is.
func (n *node) heard(epoch, number, sequence uint64, known bool) {
	switch {
	case epoch != n.epoch:
	case !known || number > n.number:
		n.subscribe()
	case number == n.number:
		n.show(max(sequence, n.view.Sequence()))
	}
}

// show makes the mirror visible as of a sequence.
func (n *node) show(sequence uint64) {
	n.mirror.StartAt(sequence)
	n.view = n.mirror.View()
	still := n.waiting[:0]
	for _, x := range n.waiting {
		if x.sequence <= sequence {
			x.folded.ring()
		} else {
			still = append(still, x)
		}
	}
	n.waiting = still
}

// ask has the server say how far the feed is, once that is as far as a sequence.
func (n *node) ask(sequence uint64) {
	if n.number == 0 {
		return // it is asking for the beginning
	}
	epoch, s := n.epoch, n.server
	n.send(&s.host, func() { s.progress(n, epoch, sequence) })
}

// reach waits until the mirror is as far as a sequence, and asks meanwhile.
func (n *node) reach(sequence uint64) {
	for n.view.Sequence() < sequence {
		b := &bell{}
		n.waiting = append(n.waiting, waiting{sequence, b})
		n.after(20*time.Millisecond, func() {
			if !b.rung {
				n.ask(sequence)
			}
		})
		n.after(10*time.Second, b.ring)
		n.w.await(b)
	}
}
