package events

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// LinkSealed is Link for an event that is at hand in its encoding.
func LinkSealed(prev [32]byte, sealed []byte) [32]byte {
	h := sha256.New()
	h.Write(prev[:])
	h.Write(sealed)
	var chain [32]byte
	h.Sum(chain[:0])
	return chain
}

// newestTag is the highest tag that this program knows.
const newestTag = 21

var errSealed = errors.New("it is not the encoding of an event")

// ParseSealed is the inverse of AppendSealed. Each event has one encoding, and
// whatever else could be read as the same event is refused, so that equal events
// have equal bytes and equal chains. It fails with ErrNewerLog (wrapped) on a field
// that a later version has added. The event's Note, Data and
// Asked are parts of b.
func ParseSealed(b []byte) (Event, error) {
	var e Event
	for last := byte(0); len(b) > 0; {
		tag := b[0]
		size, n := binary.Uvarint(b[1:])
		if n <= 0 || size == 0 || size > uint64(len(b)-1-n) || tag <= last || n != len(binary.AppendUvarint(nil, size)) {
			return Event{}, errSealed
		}
		if tag > newestTag {
			return Event{}, fmt.Errorf("an event has the field %d, which this program does not know: %w", tag, ErrNewerLog)
		}
		value := b[1+n : 1+n+int(size) : 1+n+int(size)]
		if !e.unseal(tag, value) {
			return Event{}, errSealed
		}
		last, b = tag, b[1+n+int(size):]
	}
	return e, nil
}

// unseal sets the field of a tag, and says whether the value is one for it.
func (e *Event) unseal(tag byte, value []byte) bool {
	switch tag {
	case 1:
		return unsealNumber(&e.Sequence, value)
	case 13:
		return unsealNumber(&e.Cause, value)
	case 14:
		return unsealTime(&e.Time, value)
	case 15:
		return unsealNumber(&e.Basis, value)
	case 16:
		return unsealTime(&e.Now, value)
	case 17:
		e.Optional = true
		return len(value) == 1 && value[0] == 1
	case 18:
		e.More = true
		return len(value) == 1 && value[0] == 1
	case 19:
		e.Note = value
	case 20:
		e.Data = value
	case 21:
		e.Asked = value
	default:
		*e.sealedText(tag) = string(value)
	}
	return tag != 0
}

// sealedText is the field of a tag whose value is text.
func (e *Event) sealedText(tag byte) *string {
	return [...]*string{
		2: &e.Type, 3: &e.Object.Group, 4: &e.Object.Resource, 5: &e.Object.Namespace, 6: &e.Object.Name, 7: &e.UID,
		8: &e.Actor.Kind, 9: &e.Actor.Name, 10: &e.Actor.Version, 11: &e.User, 12: &e.Audit,
	}[tag]
}

func unsealNumber(n *uint64, value []byte) bool {
	if len(value) != 8 {
		return false
	}
	*n = binary.BigEndian.Uint64(value)
	return *n != 0
}

// unsealTime refuses what no time has as its milliseconds, and the zero time,
// which is left out.
func unsealTime(t *time.Time, value []byte) bool {
	if len(value) != 8 {
		return false
	}
	n := binary.BigEndian.Uint64(value)
	*t = time.UnixMilli(int64(n)).UTC()
	return uint64(t.UnixMilli()) == n && !t.IsZero()
}
