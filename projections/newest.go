package projections

import (
	"hash/maphash"
	"math"
	"sync"

	"github.com/reprise-run/reprise/events"
)

// newest finds the newest version of an object in one step, where a tree of a hundred
// thousand takes seventeen, each to memory that is in no cache. The one who writes and all
// views of one State share it: a view takes from it what has not changed since the view
// was made, and asks its tree for all else.
type newest struct {
	seed   maphash.Seed
	shards [64]shard
}

// shard is what one lock is for.
type shard struct {
	mu       sync.RWMutex
	versions map[uint64]version // by the hash of the name: of two with the same, one is here
	// whole is the number of the first view for which what is not here is not there: that
	// which was the next when an object was last removed.
	whole uint64
}

// version is an object and the number of the first view that shows it so.
type version struct {
	entry *Entry
	since uint64
}

// many is how many objects make a newest worth its memory.
const many = 1024

func newNewest() *newest {
	n := &newest{seed: maphash.MakeSeed()}
	for i := range n.shards {
		n.shards[i].versions = map[uint64]version{}
	}
	return n
}

func (n *newest) shard(ref events.Ref) (*shard, uint64) {
	h := maphash.Comparable(n.seed, ref)
	return &n.shards[h%uint64(len(n.shards))], h
}

// get returns the object as the view of that number shows it, nil if it does not. It says
// false if that is not known here, because the object has changed since or may have gone.
func (n *newest) get(ref events.Ref, view uint64) (e *Entry, known bool) {
	s, h := n.shard(ref)
	s.mu.RLock()
	v, whole := s.versions[h], s.whole
	s.mu.RUnlock()
	switch {
	case v.entry == nil:
		return nil, view >= whole
	case v.since > view || v.entry.Ref != ref:
		return nil, false
	}
	return v.entry, true
}

// put files a version, which the view of that number will be the first to show.
func (n *newest) put(e *Entry, view uint64) {
	s, h := n.shard(e.Ref)
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.versions[h].entry; other != nil && other.Ref != e.Ref {
		s.whole = math.MaxUint64 // the other is there, and not here any more
	}
	s.versions[h] = version{e, view}
}

// remove drops an object, which the view of that number will be the first not to show.
func (n *newest) remove(ref events.Ref, view uint64) {
	s, h := n.shard(ref)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.whole = max(s.whole, view)
	if v := s.versions[h]; v.entry != nil && v.entry.Ref == ref {
		delete(s.versions, h)
	}
}
