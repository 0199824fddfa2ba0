package pebble

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/reprise-run/reprise/events"
)

// The first byte of each key: see the package comment.
const (
	cursorKey  = 'a'
	beginKey   = 'b'
	causeKey   = 'c'
	eventKey   = 'e'
	historyKey = 'h'
	lifeKey    = 'l'
	objectKey  = 'o'
	uidKey     = 'u'
)

// The parts of a reference end in a zero byte, so that keys sort as references
// compare. Names in Kubernetes have no zero byte.
func appendRef(key []byte, ref events.Ref) []byte {
	for _, part := range [...]string{ref.Group, ref.Resource, ref.Namespace, ref.Name} {
		key = append(append(key, part...), 0)
	}
	return key
}

func refKey(kind byte, ref events.Ref) []byte {
	return appendRef(append(make([]byte, 0, 64), kind), ref)
}

// resourcePrefix begins the keys of a resource's objects; with a namespace, of
// those in it.
func resourcePrefix(kind byte, group, resource, namespace string) []byte {
	key := append(append(append(append([]byte{kind}, group...), 0), resource...), 0)
	if namespace != "" {
		key = append(append(key, namespace...), 0)
	}
	return key
}

func historyAt(ref events.Ref, sequence uint64) []byte {
	return binary.BigEndian.AppendUint64(refKey(historyKey, ref), sequence)
}

// lifeOf is the key of the lifetime of an object that was created at a sequence.
func lifeOf(ref events.Ref, created uint64) []byte {
	return binary.BigEndian.AppendUint64(refKey(lifeKey, ref), created)
}

func eventAt(sequence uint64) []byte { return appendEventAt(nil, sequence) }

func appendEventAt(key []byte, sequence uint64) []byte {
	return binary.BigEndian.AppendUint64(append(key, eventKey), sequence)
}

func causeAt(cause, sequence uint64) []byte { return appendCauseAt(nil, cause, sequence) }

func appendCauseAt(key []byte, cause, sequence uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(append(key, causeKey), cause), sequence)
}

func uidAt(uid string) []byte { return append([]byte{uidKey}, uid...) }

// after is the least key that does not begin with the prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// parseRef reads a reference from the start of a key without its first byte, and
// returns what follows.
func parseRef(key []byte) (ref events.Ref, rest []byte, err error) {
	parts := strings.SplitN(string(key), "\x00", 5)
	if len(parts) != 5 {
		return ref, nil, fmt.Errorf("key %q has no reference", key)
	}
	ref = events.Ref{Group: parts[0], Resource: parts[1], Namespace: parts[2], Name: parts[3]}
	return ref, key[len(key)-len(parts[4]):], nil
}

// parseHistory reads a history key.
func parseHistory(key []byte) (ref events.Ref, sequence uint64, err error) {
	if len(key) == 0 || key[0] != historyKey {
		return ref, 0, fmt.Errorf("key %q is not one of the history", key)
	}
	ref, rest, err := parseRef(key[1:])
	if err == nil && len(rest) != 8 {
		err = fmt.Errorf("key %q does not end in a sequence", key)
	}
	if err != nil {
		return ref, 0, err
	}
	return ref, binary.BigEndian.Uint64(rest), nil
}

// describe prints a key for people.
func describe(key []byte) string {
	if len(key) == 0 {
		return "nothing"
	}
	switch key[0] {
	case cursorKey:
		return "the cursor"
	case beginKey:
		return "the beginning"
	case causeKey:
		if len(key) == 17 {
			return fmt.Sprintf("consequence %d of %d", binary.BigEndian.Uint64(key[9:]), binary.BigEndian.Uint64(key[1:]))
		}
	case eventKey:
		if len(key) == 9 {
			return fmt.Sprintf("event %d", binary.BigEndian.Uint64(key[1:]))
		}
	case historyKey:
		if ref, sequence, err := parseHistory(key); err == nil {
			return fmt.Sprintf("history of %s at %d", ref, sequence)
		}
	case lifeKey:
		if ref, rest, err := parseRef(key[1:]); err == nil && len(rest) == 8 {
			return fmt.Sprintf("lifetime of %s from %d", ref, binary.BigEndian.Uint64(rest))
		}
	case objectKey:
		if ref, _, err := parseRef(key[1:]); err == nil {
			return fmt.Sprintf("object %s", ref)
		}
	case uidKey:
		return fmt.Sprintf("uid %s", key[1:])
	}
	return fmt.Sprintf("key %q", key)
}
