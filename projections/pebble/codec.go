package pebble

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// formatVersion is that of the key layout and of the values. A projection of
// another format, older or newer, is rebuilt.
const formatVersion = 3

// errValue says that a stored value cannot be read: the database is damaged.
var errValue = errors.New("a stored value is cut short or garbled")

// encoder and decoder write values as unsigned varints and strings with their
// length before them.
type encoder []byte

func (e *encoder) number(n uint64) { *e = binary.AppendUvarint(*e, n) }
func (e *encoder) bytes(b []byte) {
	e.number(uint64(len(b)))
	*e = append(*e, b...)
}
func (e *encoder) text(s string) {
	e.number(uint64(len(s)))
	*e = append(*e, s...)
}

func (e *encoder) time(t time.Time) {
	if t.IsZero() {
		e.number(0)
		return
	}
	e.number(uint64(t.UnixMilli()) + 1)
}

type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) number() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

// bytes returns a part of what is decoded, not a copy.
func (d *decoder) bytes() []byte {
	n := d.number()
	if n > uint64(len(d.rest)) {
		d.bad, d.rest = true, nil
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) text() string { return string(d.bytes()) }

func (d *decoder) time() time.Time {
	n := d.number()
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(n - 1)).UTC()
}

func (d *decoder) err() error {
	if d.bad {
		return errValue
	}
	return nil
}

// cursor is where the projection stands.
type cursor struct {
	sequence uint64
	chain    [32]byte
}

func (c cursor) encode() []byte {
	var e encoder
	e.number(formatVersion)
	e.number(projections.FoldVersion)
	e.number(c.sequence)
	return append(e, c.chain[:]...)
}

// errOther says that the database is of another version than this program.
var errOther = errors.New("it is of another version of reprise")

func decodeCursor(b []byte) (c cursor, err error) {
	d := decoder{rest: b}
	if format, fold := d.number(), d.number(); !d.bad && (format != formatVersion || fold != projections.FoldVersion) {
		return c, errOther
	}
	c.sequence = d.number()
	if d.bad || len(d.rest) != len(c.chain) {
		return c, errValue
	}
	copy(c.chain[:], d.rest)
	return c, nil
}

// What a step of an object's history holds beside the event's data.
const (
	stepPatch   = iota // nothing: the object is the one before, patched
	stepWhole          // data is the whole object
	stepFrame          // the object as it is after the patch: a keyframe
	stepRemoved        // nothing: the object is gone
	stepSkipped        // nothing: the fold passed over the event
)

// step is one event in an object's history.
type step struct {
	kind    uint64
	created uint64
	version uint64
	uid     string
	data    []byte // as in the event
	frame   []byte // the object, for stepFrame
}

func (s *step) encode() []byte {
	return s.append(make([]byte, 0, len(s.data)+len(s.frame)+len(s.uid)+24))
}

func (s *step) append(b []byte) []byte {
	out := encoder(b)
	out.number(s.kind)
	out.number(s.created)
	out.number(s.version)
	out.text(s.uid)
	out.bytes(s.data)
	return append(out, s.frame...)
}

// decodeStep returns parts of what it is given, not copies.
func decodeStep(b []byte) (step, error) {
	d := decoder{rest: b}
	s := step{kind: d.number(), created: d.number(), version: d.number(), uid: d.text(), data: d.bytes()}
	s.frame = d.rest
	return s, d.err()
}

// encodeEvent writes the envelope: all but the sequence, which is in the key,
// and the data, which is in the object's history.
func encodeEvent(ev *events.Event) []byte {
	return appendEvent(make([]byte, 0, 256+len(ev.Note)+len(ev.Asked)), ev)
}

func appendEvent(b []byte, ev *events.Event) []byte {
	out := encoder(b)
	flags := uint64(0)
	if ev.Optional {
		flags |= 1
	}
	if ev.More {
		flags |= 2
	}
	if len(ev.Asked) > 0 {
		flags |= 4
	}
	out.number(flags)
	for _, s := range [...]string{
		ev.Type, ev.Object.Group, ev.Object.Resource, ev.Object.Namespace, ev.Object.Name, ev.UID,
		ev.Actor.Kind, ev.Actor.Name, ev.Actor.Version, ev.User, ev.Audit,
	} {
		out.text(s)
	}
	out.number(ev.Cause)
	out.time(ev.Time)
	out.number(ev.Basis)
	out.time(ev.Now)
	out.bytes(ev.Note)
	if len(ev.Asked) > 0 {
		out.bytes(ev.Asked)
	}
	return append(out, ev.Chain[:]...)
}

func decodeEvent(sequence uint64, b []byte) (events.Event, error) {
	d := decoder{rest: b}
	ev := events.Event{Sequence: sequence}
	flags := d.number()
	ev.Optional, ev.More = flags&1 != 0, flags&2 != 0
	for _, s := range []*string{
		&ev.Type, &ev.Object.Group, &ev.Object.Resource, &ev.Object.Namespace, &ev.Object.Name, &ev.UID,
		&ev.Actor.Kind, &ev.Actor.Name, &ev.Actor.Version, &ev.User, &ev.Audit,
	} {
		*s = d.text()
	}
	ev.Cause, ev.Time, ev.Basis, ev.Now = d.number(), d.time(), d.number(), d.time()
	if note := d.bytes(); len(note) > 0 {
		ev.Note = append([]byte(nil), note...)
	}
	if flags&4 != 0 {
		ev.Asked = append([]byte(nil), d.bytes()...)
	}
	if d.bad || len(d.rest) != len(ev.Chain) {
		return ev, errValue
	}
	copy(ev.Chain[:], d.rest)
	return ev, nil
}
