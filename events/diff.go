package events

import (
	"bytes"
	"strconv"
)

// Diff returns the patch that turns one document into another, and nil if they
// are equal. Operations come in the order of the paths; members of objects are
// compared by name and elements of arrays by position, save that elements put in
// or taken out at one place in an array are said to be so.
func Diff(before, after []byte) ([]byte, error) {
	if bytes.Equal(before, after) {
		return nil, nil
	}
	var err error
	if !IsCanonical(before) {
		if before, err = Canonical(before); err != nil {
			return nil, err
		}
	}
	if !IsCanonical(after) {
		if after, err = Canonical(after); err != nil {
			return nil, err
		}
	}
	ops := diff(before, after)
	if len(ops) == 0 {
		return nil, nil
	}
	return AppendPatch(nil, ops), nil
}

// AppendDiff appends the operations that turn one value at a path into another, in the
// order of Diff. Both values are known to be canonical; nil is none.
func AppendDiff(ops []Op, path string, before, after []byte) []Op {
	d := differ{path: []byte(path), ops: ops}
	switch {
	case before == nil && after == nil:
	case before == nil:
		d.add("add", after)
	case after == nil:
		d.add("remove", nil)
	default:
		d.values(before, after)
	}
	return d.ops
}

// diff is Diff for documents that are known to be canonical.
func diff(before, after []byte) []Op {
	var d differ
	d.values(before, after)
	return d.ops
}

// differ compares canonical documents. path is where it is.
type differ struct {
	path []byte
	ops  []Op
}

func (d *differ) add(op string, value []byte) {
	d.ops = append(d.ops, Op{Op: op, Path: string(d.path), Value: value})
}

// at does something one step further down.
func (d *differ) at(token string, do func()) {
	length := len(d.path)
	d.path = appendToken(d.path, token)
	do()
	d.path = d.path[:length]
}

func (d *differ) values(b, a []byte) {
	switch {
	case bytes.Equal(b, a):
	case b[0] == '{' && a[0] == '{':
		d.objects(b, a)
	case b[0] == '[' && a[0] == '[':
		d.arrays(elements(b), elements(a))
	default:
		d.add("replace", a)
	}
}

// objects goes through both objects side by side, in the order of the names.
func (d *differ) objects(b, a []byte) {
	befores, afters := childrenOf(b, 0), childrenOf(a, 0)
	kb, inB := befores.next()
	ka, inA := afters.next()
	for inB || inA {
		order := 0
		switch {
		case !inA:
			order = -1
		case !inB:
			order = 1
		default:
			order = compareNames(kb.name, ka.name)
		}
		switch {
		case order < 0:
			d.at(unquoteName(kb.name), func() { d.add("remove", nil) })
		case order > 0:
			d.at(unquoteName(ka.name), func() { d.add("add", a[ka.from:ka.end]) })
		case !bytes.Equal(b[kb.from:kb.end], a[ka.from:ka.end]):
			d.at(unquoteName(ka.name), func() { d.values(b[kb.from:kb.end], a[ka.from:ka.end]) })
		}
		if order <= 0 {
			kb, inB = befores.next()
		}
		if order >= 0 {
			ka, inA = afters.next()
		}
	}
}

// arrays keeps what is equal at both ends, so that one element put in or taken
// out is one operation.
func (d *differ) arrays(b, a [][]byte) {
	head := 0
	for head < len(b) && head < len(a) && bytes.Equal(b[head], a[head]) {
		head++
	}
	tail := 0
	if len(a) != len(b) {
		for tail < len(b)-head && tail < len(a)-head && bytes.Equal(b[len(b)-1-tail], a[len(a)-1-tail]) {
			tail++
		}
	}
	b, a = b[head:len(b)-tail], a[head:len(a)-tail]
	both := min(len(a), len(b))
	for i := range both {
		d.at(strconv.Itoa(head+i), func() { d.values(b[i], a[i]) })
	}
	for i := both; i < len(a); i++ {
		d.at(strconv.Itoa(head+i), func() { d.add("add", a[i]) })
	}
	for i := len(b) - 1; i >= both; i-- {
		d.at(strconv.Itoa(head+i), func() { d.add("remove", nil) })
	}
}

func elements(array []byte) [][]byte {
	var all [][]byte
	for each := childrenOf(array, 0); ; {
		k, ok := each.next()
		if !ok {
			return all
		}
		all = append(all, array[k.from:k.end])
	}
}

// unquoteName is the name of a member, given as JSON.
func unquoteName(name []byte) string {
	if bytes.IndexByte(name, '\\') < 0 {
		return string(name[1 : len(name)-1])
	}
	return unquoteJSON(name)
}
