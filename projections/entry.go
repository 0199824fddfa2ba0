// Package projections folds the log into state: what the cluster is now, and
// what it was at any sequence. A projection holds nothing that is not in the
// log, so every one of them can be deleted and rebuilt to the same bytes.
//
// The API server, the committer and every agent read the cluster through a View
// of a State, in memory; projections/pebble keeps the durable form, with the
// history. The fold is pure: no clock, randomness, I/O, goroutine or logger.
package projections

import (
	"bytes"
	"slices"
	"sync/atomic"
	"unique"

	"github.com/reprise-run/reprise/events"
)

// Entry is one version of one object. It is immutable, and so is everything
// that it leads to: who wants to change the decoded object copies it first.
type Entry struct {
	Ref events.Ref
	UID string
	// Created and Sequence are the sequences of the object's first and latest
	// event. Sequence is its resourceVersion.
	Created, Sequence uint64
	// Version counts the object's events: its creation is 1. It is 0 for an
	// entry that was not folded.
	Version uint64
	// Raw is the object in canonical JSON (events.Canonical). As upstream's
	// storage does, it leaves metadata.resourceVersion out.
	Raw []byte

	outline events.Outline // of Raw, where it is known

	owners []unique.Handle[string] // uids of metadata.ownerReferences; see also uncontrolled
	node   string                  // spec.nodeName, of a pod

	memo atomic.Pointer[memo] // nil: nothing is decoded
}

// Standing returns how an object stands, as a committer asks: its canonical JSON with
// what is known of its outline, its uid and the sequence of its latest event.
func Standing(r Reader, object events.Ref) (raw []byte, outline events.Outline, uid string, sequence uint64, ok bool) {
	e := r.Get(object)
	if e == nil {
		return nil, outline, "", 0, false
	}
	return e.Raw, e.outline, e.UID, e.Sequence, true
}

// Node is the name of the node that a pod is bound to, "" for one that is not and
// for what is no pod. It decodes nothing.
func (e *Entry) Node() string { return e.node }

// Lookup is events.Lookup in the object, for less.
func (e *Entry) Lookup(names ...string) []byte { return e.outline.Lookup(e.Raw, names...) }

// Change is one folded event: the object before it and after it. Before is nil
// for a creation, After for a removal.
type Change struct {
	Event         *events.Event
	Before, After *Entry
}

// Mentions says whether a change may be one of what is at these paths of the object, or
// below, as far as its patch tells: each is the beginning of a path, as a patch has it, with the
// quote before. It costs much less than to look at the object, and most changes are of a status.
// That a patch is of the whole object need not be asked: the owners table allows no such one.
func (c Change) Mentions(paths [][]byte) bool {
	patch := c.Event.Data
	if c.Before == nil || c.After == nil || !bytes.HasPrefix(patch, []byte("[")) || bytes.IndexByte(patch, '\\') >= 0 {
		return true // It is of all, or a path may be written in another way.
	}
	return slices.ContainsFunc(paths, func(path []byte) bool { return bytes.Contains(patch, path) })
}

// Entry is the version that the change is about: the one after it, or for a
// removal the one before.
func (c Change) Entry() *Entry {
	if c.After != nil {
		return c.After
	}
	return c.Before
}
