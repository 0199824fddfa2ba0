package runner

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Update is the decision that turns an object into after, expecting it as the
// decider saw it. It says false if that changes nothing.
func Update(e *projections.Entry, typ string, after any, because uint64) (events.Decision, bool) {
	patch, err := events.Diff(e.Raw, Encode(after))
	if err != nil {
		panic(fmt.Sprintf("%s at sequence %d cannot be compared: %v", e.Ref, e.Sequence, err))
	}
	if patch == nil {
		return events.Decision{}, false
	}
	return fact(e, typ, because, patch), true
}

// UpdatePart is Update for an object of which only the member at a pointer, such
// as "/status", changes. It compares no more than that, and is much cheaper. The
// member must be there before.
func UpdatePart(e *projections.Entry, typ, pointer string, before, after any, because uint64) (events.Decision, bool) {
	patch, err := events.Diff(Encode(before), Encode(after))
	if err != nil {
		panic(fmt.Sprintf("%s of %s at sequence %d cannot be compared: %v", pointer, e.Ref, e.Sequence, err))
	}
	if patch == nil {
		return events.Decision{}, false
	}
	ops, err := events.ParsePatch(patch)
	if err != nil {
		panic(fmt.Sprintf("the patch of %s of %s at sequence %d cannot be read: %v", pointer, e.Ref, e.Sequence, err))
	}
	for i := range ops {
		ops[i].Path = pointer + ops[i].Path
	}
	return fact(e, typ, because, events.AppendPatch(nil, ops)), true
}

// Patch is the decision that changes an object by the operations given,
// expecting it as the decider saw it: for facts whose patch is known beforehand.
func Patch(e *projections.Entry, typ string, because uint64, ops ...events.Op) events.Decision {
	return fact(e, typ, because, events.AppendPatch(nil, ops))
}

// Set is the operation that gives a path a value, whether it had one or not.
func Set(path string, value any) events.Op {
	return events.Op{Op: "add", Path: path, Value: Encode(value)}
}

// Unset is the operation that removes a path, which must be there.
func Unset(path string) events.Op { return events.Op{Op: "remove", Path: path} }

// Removal is the decision that an object is gone for good, past its finalizers.
func Removal(e *projections.Entry, typ string, because uint64) events.Decision {
	return fact(e, typ, because, events.Removal())
}

// fact is the decision that one thing happened to an object, expecting it as the decider saw
// it.
func fact(e *projections.Entry, typ string, because uint64, data []byte) events.Decision {
	return events.Decision{
		Because: because,
		Changes: []events.Change{{Type: typ, Object: e.Ref, UID: e.UID, Data: data}},
		Expect:  []events.Expectation{{Object: e.Ref, Sequence: e.Sequence}},
	}
}

// Creation is the command to create an object, which must have its apiVersion
// and kind set.
func Creation(ref events.Ref, object any, because uint64) Command {
	return Command{Verb: Create, Object: ref, Because: because, Body: Encode(object)}
}

// CreationLike is the command to create an object that differs from that of another
// creation only in its name: the bytes are those that Creation would make.
func CreationLike(c Command, name string) Command {
	before, behind, ok := events.Around(c.Body, "metadata", "name")
	if !ok {
		panic(fmt.Sprintf("%s is created without a name", c.Object))
	}
	quoted := Encode(name)
	body := make([]byte, 0, len(before)+len(quoted)+len(behind))
	c.Body = append(append(append(body, before...), quoted...), behind...)
	c.Object.Name = name
	return c
}

// NameSuffix is the part of a created object's name that makes it unique: five
// characters, derived from the creation's cause and its place among what the
// cause leads to. The same cause names the same objects, so that a creation
// whose answer was lost can be repeated.
func NameSuffix(because uint64, ordinal int) string {
	var seed [16]byte
	binary.BigEndian.PutUint64(seed[:8], because)
	binary.BigEndian.PutUint64(seed[8:], uint64(ordinal))
	sum := sha256.Sum256(seed[:])
	var suffix [5]byte
	for i := range suffix {
		suffix[i] = nameAlphabet[int(sum[i])%len(nameAlphabet)]
	}
	return string(suffix[:])
}

// nameAlphabet has no vowels, so that no bad words come out, and nothing that is
// easily mistaken for something else.
const nameAlphabet = "bcdfghjklmnpqrstvwxz2456789"

// Encode returns a typed object as canonical JSON. The types of the Kubernetes API always
// encode, so a failure is a bug in the decider.
func Encode(o any) []byte {
	if text, is := o.(string); is {
		return events.AppendString(make([]byte, 0, len(text)+2), text)
	}
	b := encoded.Get().(*bytes.Buffer)
	b.Reset()
	err := json.NewEncoder(b).Encode(o)
	var raw []byte
	if err == nil {
		raw, err = events.Canonical(b.Bytes())
	}
	if err != nil {
		panic(fmt.Sprintf("cannot encode %T: %v", o, err))
	}
	if b.Cap() <= maxEncoded {
		encoded.Put(b)
	}
	return raw
}

// encoded are buffers for what Encode makes canonical. One that held a large object is
// not kept.
var encoded = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const maxEncoded = 64 << 10
