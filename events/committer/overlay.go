package committer

import "github.com/reprise-run/reprise/events"

// overlay is the index with what was appended and is not folded yet on top.
type overlay struct {
	index Index
	fresh map[events.Ref]standing
	// order names what to forget once which sequence is folded.
	order []written
}

type written struct {
	object events.Ref
	last   uint64
}

func newOverlay(index Index) *overlay {
	return &overlay{index: index, fresh: make(map[events.Ref]standing)}
}

func (o *overlay) standing(object events.Ref) standing {
	if s, ok := o.fresh[object]; ok {
		return s
	}
	raw, outline, uid, sequence, ok := o.index.Lookup(object)
	if !ok {
		return standing{}
	}
	return standing{raw: raw, outline: outline, uid: uid, last: sequence}
}

// add notes how an object stands after an append.
func (o *overlay) add(object events.Ref, s standing) {
	o.fresh[object] = s
	o.order = append(o.order, written{object, s.last})
}

// trim forgets what the index knows by now.
func (o *overlay) trim() {
	folded, n := o.index.Folded(), 0
	for ; n < len(o.order) && o.order[n].last <= folded; n++ {
		if object := o.order[n].object; o.fresh[object].last <= folded {
			delete(o.fresh, object)
		}
	}
	o.order = o.order[n:]
}
