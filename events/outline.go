package events

// Outline is where the members of a canonical object begin, if they are few: who
// changes a document again and again, or looks into it, need not walk through all of
// it each time. The zero value knows nothing, and is good for every document.
type Outline struct {
	starts [7]uint32
	n      uint8
}

// outline makes the outline of a document.
func outline(doc []byte) (o Outline) {
	if len(doc) == 0 || doc[0] != '{' || uint64(len(doc)) > 1<<31 {
		return Outline{}
	}
	for all := childrenOf(doc, 0); ; o.n++ {
		k, ok := all.next()
		switch {
		case !ok:
			return o
		case int(o.n) == len(o.starts):
			return Outline{}
		}
		o.starts[o.n] = uint32(k.start)
	}
}

// find is find in the root of the document.
func (o *Outline) find(doc []byte, name []byte) (child, bool) {
	for i := range o.starts[:o.n] {
		start := int(o.starts[i])
		if start >= len(doc) {
			break
		}
		colon := skipString(doc, start)
		switch c := compareNames(doc[start:colon], name); {
		case c < 0:
			continue
		case c > 0:
			return child{start: start, end: start}, false
		}
		end := len(doc) - 1
		if i+1 < int(o.n) {
			end = int(o.starts[i+1]) - 1
		}
		return child{name: doc[start:colon], start: start, from: min(colon+1, end), end: end}, true
	}
	return child{start: len(doc) - 1, end: len(doc) - 1}, false
}

// Lookup is Lookup in the document.
func (o *Outline) Lookup(doc []byte, names ...string) []byte {
	if o.n == 0 || len(names) == 0 {
		return Lookup(doc, names...)
	}
	var space [64]byte // for a name, which is short
	k, ok := o.find(doc, AppendString(space[:0], names[0]))
	if !ok || k.from > k.end {
		return nil
	}
	return Lookup(doc[k.from:k.end], names[1:]...)
}

// moved takes note that what lies behind a place within a member has moved.
func (o *Outline) moved(behind, by int) {
	for i := range o.starts[:o.n] {
		if int(o.starts[i]) > behind {
			o.starts[i] = uint32(int(o.starts[i]) + by)
		}
	}
}
