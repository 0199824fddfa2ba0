package archive

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"iter"

	"github.com/reprise-run/reprise/events"
)

// checkSize is how many bytes of an event's chain follow it. They name the event at
// which the chain breaks; the whole chain at each block's end is what proves.
const checkSize = 4

var errRecord = errors.New("a record in it is cut short or garbled")

// appendEvent adds an event's record: its length, its encoding, and the first
// bytes of its chain.
func appendEvent(b, sealed []byte, chain [32]byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(sealed)))
	b = append(b, sealed...)
	return append(b, chain[:checkSize]...)
}

// cutEvent takes the next event's record off b.
func cutEvent(b []byte) (sealed, check, rest []byte, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) || uint64(len(b)-n)-size < checkSize {
		return nil, nil, nil, errRecord
	}
	b = b[n:]
	return b[:size:size], b[size : size+checkSize], b[size+checkSize:], nil
}

// appendObject adds an object's record: texts with their lengths before them, and
// numbers.
func appendObject(b []byte, o *Object) []byte {
	for _, s := range []string{o.Ref.Group, o.Ref.Resource, o.Ref.Namespace, o.Ref.Name, o.UID} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	for _, n := range []uint64{o.Created, o.Sequence, o.Version, uint64(len(o.Raw))} {
		b = binary.AppendUvarint(b, n)
	}
	return append(b, o.Raw...)
}

// cutObject takes the next object's record off b. The object shares its memory.
func cutObject(b []byte) (o Object, rest []byte, err error) {
	number := func() uint64 {
		n, size := binary.Uvarint(b)
		if size <= 0 {
			err, b = errRecord, nil
			return 0
		}
		b = b[size:]
		return n
	}
	bytes := func() []byte {
		n := number()
		if n > uint64(len(b)) {
			err, b = errRecord, nil
			return nil
		}
		s := b[:n:n]
		b = b[n:]
		return s
	}
	for _, s := range []*string{&o.Ref.Group, &o.Ref.Resource, &o.Ref.Namespace, &o.Ref.Name, &o.UID} {
		*s = string(bytes())
	}
	o.Created, o.Sequence, o.Version = number(), number(), number()
	o.Raw = bytes()
	return o, b, err
}

// Summarize counts objects, which are in the order of events.Ref.Compare, and
// hashes them, for a Header.
func Summarize(objects iter.Seq[Object]) Snapshot {
	s := summary{sum: sha256.New()}
	for o := range objects {
		s.add(appendObject(nil, &o))
	}
	return s.snapshot()
}

// summary gathers a Snapshot.
type summary struct {
	n    uint64
	sum  hash.Hash
	last events.Ref
}

func (s *summary) add(record []byte) {
	s.n++
	s.sum.Write(record)
}

func (s *summary) snapshot() Snapshot {
	out := Snapshot{Objects: s.n}
	s.sum.Sum(out.Hash[:0])
	return out
}
