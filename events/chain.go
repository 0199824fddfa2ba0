package events

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// Link returns the Chain of an event whose predecessor in the log has the chain
// prev (zeros for the first): SHA-256 over prev and the event's encoding. The
// event's Sequence must be set. Who holds the chain of one event can tell
// whether any event before it was altered, dropped or put in.
//
// # The encoding
//
// Fields follow each other as tag (one byte), length (unsigned varint), value;
// a field that is empty, zero or false is left out. Values are the bytes of
// strings and slices, 8 bytes big-endian for sequences, the same for times as
// milliseconds since 1970, and one byte 1 for true. Tags, in ascending order:
//
//	1 Sequence        6 Object.Name     11 User      16 Now
//	2 Type            7 UID             12 Audit     17 Optional
//	3 Object.Group    8 Actor.Kind      13 Cause     18 More
//	4 Object.Resource 9 Actor.Name      14 Time      19 Note
//	5 Object.Namespace 10 Actor.Version 15 Basis     20 Data
//	                                                21 Asked
//
// A field that the envelope gains one day gets the next tag, so that the chains
// of events without it stay what they are.
func Link(prev [32]byte, e *Event) [32]byte {
	chain, _ := LinkIn(nil, prev, e)
	return chain
}

// LinkIn is Link for who has many events. It uses the space that it is given, and
// returns that, or more, for the next.
func LinkIn(space []byte, prev [32]byte, e *Event) (chain [32]byte, more []byte) {
	space = slices.Grow(space[:0], 256+len(e.Data)+len(e.Note)+len(e.Asked))
	space = e.AppendSealed(append(space, prev[:]...))
	chain = sha256.Sum256(space)
	e.link(prev, chain)
	return chain, space
}

// AppendSealed appends the encoding of an event that its chain is made over (see
// Link): all fields but Chain. ParseSealed reads it.
func (e *Event) AppendSealed(b []byte) []byte {
	b = sealNumber(b, 1, e.Sequence)
	b = seal(b, 2, e.Type)
	b = seal(b, 3, e.Object.Group)
	b = seal(b, 4, e.Object.Resource)
	b = seal(b, 5, e.Object.Namespace)
	b = seal(b, 6, e.Object.Name)
	b = seal(b, 7, e.UID)
	b = seal(b, 8, e.Actor.Kind)
	b = seal(b, 9, e.Actor.Name)
	b = seal(b, 10, e.Actor.Version)
	b = seal(b, 11, e.User)
	b = seal(b, 12, e.Audit)
	b = sealNumber(b, 13, e.Cause)
	b = sealTime(b, 14, e.Time)
	b = sealNumber(b, 15, e.Basis)
	b = sealTime(b, 16, e.Now)
	b = sealFlag(b, 17, e.Optional)
	b = sealFlag(b, 18, e.More)
	b = seal(b, 19, e.Note)
	b = seal(b, 20, e.Data)
	return seal(b, 21, e.Asked)
}

func seal[T string | []byte](b []byte, tag byte, value T) []byte {
	if len(value) == 0 {
		return b
	}
	b = binary.AppendUvarint(append(b, tag), uint64(len(value)))
	return append(b, value...)
}

func sealNumber(b []byte, tag byte, n uint64) []byte {
	if n == 0 {
		return b
	}
	return binary.BigEndian.AppendUint64(append(b, tag, 8), n)
}

func sealTime(b []byte, tag byte, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	return binary.BigEndian.AppendUint64(append(b, tag, 8), uint64(t.UnixMilli()))
}

func sealFlag(b []byte, tag byte, set bool) []byte {
	if !set {
		return b
	}
	return append(b, tag, 1, 1)
}

// ChainError says at which event a run of events stops being the one that was
// appended.
type ChainError struct {
	Sequence uint64
	Reason   string
}

func (e *ChainError) Error() string {
	return fmt.Sprintf("the log is damaged or was tampered with at sequence %d: %s", e.Sequence, e.Reason)
}

// VerifyChain checks events that follow each other in the log, given the
// sequence and chain of the one before them (zeros for the log's beginning), and
// returns the chain of the last. It fails with a *ChainError. What was linked in this
// process, and comes from nowhere else, is not hashed again.
func VerifyChain(after uint64, prev [32]byte, run []Event) ([32]byte, error) {
	var buf []byte
	for i := range run {
		e := &run[i]
		if e.Sequence != after+1 {
			return prev, &ChainError{after + 1, fmt.Sprintf("the event there says sequence %d", e.Sequence)}
		}
		if e.follows(prev) {
			after, prev = e.Sequence, e.Chain
			continue
		}
		buf = e.AppendSealed(append(buf[:0], prev[:]...))
		if sha256.Sum256(buf) != e.Chain {
			return prev, &ChainError{e.Sequence, "it or an event before it is not what was appended"}
		}
		after, prev = e.Sequence, e.Chain
	}
	return prev, nil
}
