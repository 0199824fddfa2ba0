package projections

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"sync"
	"unique"

	"github.com/tidwall/btree"

	"github.com/reprise-run/reprise/events"
)

// index holds the objects of one moment in persistent trees: a copy costs
// nothing, and the copy and the original go their own ways from there.
type index struct {
	objects *btree.BTreeG[*Entry]
	owned   *btree.BTreeG[link]
	onNode  *btree.BTreeG[link]
	// near is where an object was looked for last, by the one who writes: what comes of
	// an event is put where the object was found. Nil in copies.
	near *btree.PathHint
	// kinds are the resources that have an object, in order. Views share them: they are
	// replaced when one comes or goes.
	kinds []kind
	// newest is shared with the copies that were made since there were many objects.
	newest *newest
	number uint64 // of the view that this is, or for the one who writes, of the next
}

// kind is a resource that has objects.
type kind struct {
	group, resource string
	objects         *int // how many, for the one who writes
}

func (k kind) compare(ref events.Ref) int {
	return cmp.Or(strings.Compare(k.group, ref.Group), strings.Compare(k.resource, ref.Resource))
}

// link files an object under a key that is not its own. Those alike share its memory, and
// so most are compared without a look there.
type link struct {
	key   unique.Handle[string]
	entry *Entry
}

func newIndex() index {
	return index{
		objects: btree.NewBTreeGOptions(func(a, b *Entry) bool { return a.Ref.Compare(b.Ref) < 0 }, unlocked),
		owned:   btree.NewBTreeGOptions(linkLess, unlocked),
		onNode:  btree.NewBTreeGOptions(linkLess, unlocked),
		near:    new(btree.PathHint),
		number:  1,
	}
}

// unlocked trees are safe here, because a tree has one writer, and readers get
// copies that nobody writes. Their nodes are small, because each that a batch changes is
// copied once: a few events change as many.
var unlocked = btree.Options{NoLocks: true, Degree: 8}

func linkLess(a, b link) bool {
	if a.key != b.key {
		return a.key.Value() < b.key.Value()
	}
	return a.entry.Ref.Compare(b.entry.Ref) < 0
}

// copy returns what a view shows. What is put from here on is of the next.
func (x *index) copy() index {
	view := index{objects: x.objects.Copy(), owned: x.owned.Copy(), onNode: x.onNode.Copy(), kinds: x.kinds, newest: x.newest, number: x.number}
	x.number++
	return view
}

func (x *index) get(ref events.Ref) *Entry {
	if x.newest != nil {
		if e, known := x.newest.get(ref, x.number); known {
			return e
		}
	}
	probe := probes.Get().(*Entry)
	probe.Ref = ref
	e, _ := x.objects.GetHint(probe, x.near)
	probe.Ref = events.Ref{}
	probes.Put(probe)
	return e
}

// probes are entries that only name what is looked for: trees compare whole ones.
var probes = sync.Pool{New: func() any { return new(Entry) }}

// put files the object in place of the one of its name, which it returns.
func (x *index) put(e *Entry) *Entry {
	before, _ := x.objects.SetHint(e, x.near)
	switch {
	case x.newest != nil:
		x.newest.put(e, x.number)
	case x.objects.Len() >= many:
		x.newest = newNewest()
		x.objects.Scan(func(e *Entry) bool { x.newest.put(e, x.number); return true })
	}
	if before != nil {
		x.unlink(before, e)
	} else {
		x.count(e.Ref, 1)
	}
	for _, uid := range e.owners {
		x.owned.Set(link{uid, e})
	}
	if isPod(e.Ref) {
		x.onNode.Set(link{unique.Make(e.node), e})
	}
	return before
}

func (x *index) remove(ref events.Ref) *Entry {
	before, _ := x.objects.Delete(&Entry{Ref: ref})
	if before != nil {
		if x.newest != nil {
			x.newest.remove(ref, x.number)
		}
		x.unlink(before, nil)
		x.count(ref, -1)
	}
	return before
}

// count takes down that objects of the resource have come or gone.
func (x *index) count(ref events.Ref, by int) {
	at, known := slices.BinarySearchFunc(x.kinds, ref, kind.compare)
	if !known {
		x.kinds = slices.Insert(slices.Clone(x.kinds), at, kind{ref.Group, ref.Resource, new(int)})
	}
	objects := x.kinds[at].objects
	if *objects += by; *objects == 0 {
		x.kinds = slices.Delete(slices.Clone(x.kinds), at, at+1)
	}
}

// unlink takes out the links of an object that after will not replace.
func (x index) unlink(before, after *Entry) {
	if after == nil || !slices.Equal(before.owners, after.owners) {
		for _, uid := range before.owners {
			x.owned.Delete(link{uid, before})
		}
	}
	if isPod(before.Ref) && (after == nil || after.node != before.node) {
		x.onNode.Delete(link{unique.Make(before.node), before})
	}
}

func (x index) list(group, resource, namespace string) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		from := events.Ref{Group: group, Resource: resource, Namespace: namespace}
		probe := probes.Get().(*Entry)
		probe.Ref = from
		x.objects.Ascend(probe, func(e *Entry) bool {
			if e.Ref.Group != group || e.Ref.Resource != resource {
				return false
			}
			if namespace != "" && e.Ref.Namespace != namespace {
				return false
			}
			return yield(e)
		})
		probes.Put(probe)
	}
}

// any says whether list would yield anything.
func (x index) any(group, resource, namespace string) (found bool) {
	from := events.Ref{Group: group, Resource: resource, Namespace: namespace}
	if _, known := slices.BinarySearchFunc(x.kinds, from, kind.compare); !known || namespace == "" {
		return known
	}
	probe := probes.Get().(*Entry)
	probe.Ref = from
	x.objects.Ascend(probe, func(e *Entry) bool {
		found = e.Ref.Group == group && e.Ref.Resource == resource && e.Ref.Namespace == namespace
		return false
	})
	probe.Ref = events.Ref{}
	probes.Put(probe)
	return found
}

func (x index) resources() iter.Seq[events.Ref] {
	return func(yield func(events.Ref) bool) {
		for _, k := range x.kinds {
			if !yield(events.Ref{Group: k.group, Resource: k.resource}) {
				return
			}
		}
	}
}

// least is an entry before all others.
var least Entry

func linked(tree *btree.BTreeG[link], key string) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		alike := unique.Make(key)
		tree.Ascend(link{alike, &least}, func(l link) bool { return l.key == alike && yield(l.entry) })
	}
}

// snapshot is the Reader of one moment.
type snapshot struct {
	index    index
	sequence uint64
	trace    *Trace
}

func (s *snapshot) Sequence() uint64                  { return s.sequence }
func (s *snapshot) Get(ref events.Ref) *Entry         { return s.index.get(ref) }
func (s *snapshot) Owned(uid string) iter.Seq[*Entry] { return linked(s.index.owned, uid) }
func (s *snapshot) Uncontrolled(group, resource, namespace string) iter.Seq[*Entry] {
	return linked(s.index.owned, uncontrolled(group, resource, namespace))
}
func (s *snapshot) OnNode(node string) iter.Seq[*Entry] {
	return linked(s.index.onNode, node)
}

// Trace implements Traced.
func (s *snapshot) Trace() *Trace { return s.trace }

func (s *snapshot) Resources() iter.Seq[events.Ref] { return s.index.resources() }
func (s *snapshot) List(group, resource, namespace string) iter.Seq[*Entry] {
	return s.index.list(group, resource, namespace)
}

// uncontrolled is the key under which objects without a controller are filed
// among the owned ones. No uid that is filed looks like it: see link.
func uncontrolled(group, resource, namespace string) string {
	return "/" + group + "/" + resource + "/" + namespace
}

func isPod(r events.Ref) bool { return r.Resource == "pods" && r.Group == "" }

// link reads from an object what it is filed under beside its name.
func (e *Entry) link() {
	controlled := false
	for _, owner := range events.Elements(e.Lookup("metadata", "ownerReferences")) {
		// One that begins with "/" is nobody's, and would be taken for one of the
		// keys of uncontrolled: anybody may write it into an object.
		if uid := plainString(events.Lookup(owner, "uid")); uid != "" && uid[0] != '/' {
			e.owners = append(e.owners, unique.Make(uid))
		}
		controlled = controlled || string(events.Lookup(owner, "controller")) == "true"
	}
	if !controlled {
		e.owners = append(e.owners, unique.Make(uncontrolled(e.Ref.Group, e.Ref.Resource, e.Ref.Namespace)))
	}
	if isPod(e.Ref) {
		e.node = plainString(e.Lookup("spec", "nodeName"))
	}
}
