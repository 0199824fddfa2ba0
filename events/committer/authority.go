package committer

import (
	"fmt"
	"strings"

	"github.com/reprise-run/reprise/events"
)

// nodeLeases is the namespace of the leases by which nodes say that they live.
const nodeLeases = "kube-node-lease"

// trespass says why a node may not speak so of an object: it may speak of itself
// and of the pods that are bound to it, and only in its own name. Others are held
// to the owners table alone. The operations are those of the change's patch, if it
// is one.
func trespass(by events.Actor, object events.Ref, before, after standing, ops []events.Op) string {
	if by.Kind != "node" {
		return ""
	}
	itself := object.Name == by.Name
	switch object.GroupResource() {
	case "nodes":
		itself = itself && object.Namespace == ""
	case "leases.coordination.k8s.io":
		itself = itself && object.Namespace == nodeLeases
	case "pods":
		return trespassOnPod(by, before, after, ops)
	case "events":
		return trespassOnNote(by, object, before, after)
	default:
		return "a node may only speak of itself and of its pods"
	}
	if !itself {
		return "a node may only speak of itself"
	}
	return disguise(object, after)
}

// disguise says why an object is not what it is filed as. Of a pod that need not be asked:
// by the owners table a node makes none, and touches the name of none.
func disguise(object events.Ref, after standing) string {
	if after.raw != nil && (after.text("metadata", "name") != object.Name || after.text("metadata", "namespace") != object.Namespace) {
		return "the object says that it is another one"
	}
	return ""
}

// trespassOnPod holds a node to its own pods, which it may end only when they are
// to be deleted and nobody else has something to do first.
func trespassOnPod(by events.Actor, before, after standing, ops []events.Op) string {
	for i, s := range [...]standing{before, after} {
		if s.raw == nil || i > 0 && before.raw != nil && !touches(ops, "/spec/nodeName") {
			continue
		}
		if node := s.text("spec", "nodeName"); node != by.Name {
			return fmt.Sprintf("the pod is bound to node %q", node)
		}
	}
	if after.raw != nil {
		return revival(before, after, ops)
	}
	if events.Lookup(before.raw, "metadata", "deletionTimestamp") == nil {
		return "nobody has asked for the pod to be deleted"
	}
	if f := events.Lookup(before.raw, "metadata", "finalizers"); f != nil && string(f) != "[]" {
		return "the pod's finalizers are not done"
	}
	return ""
}

// revival says how a change would have a pod that has ended be another way again.
// Others have acted on its end: the pod that takes its place is there.
func revival(before, after standing, ops []events.Op) string {
	if before.raw == nil || !touches(ops, "/status/phase") {
		return ""
	}
	was, is := before.text("status", "phase"), after.text("status", "phase")
	if (was == "Succeeded" || was == "Failed") && is != was {
		return fmt.Sprintf("the pod has ended as %s, and cannot become %q", was, is)
	}
	return ""
}

// trespassOnNote lets a node tell people of anything that it sees, and keeps it
// from taking the word of others.
func trespassOnNote(by events.Actor, object events.Ref, before, after standing) string {
	for _, s := range []standing{before, after} {
		if s.raw != nil && s.text("source", "host") != by.Name {
			return "the note is not this node's: its source.host is another"
		}
	}
	return disguise(object, after)
}

// touches says whether a patch may change what lies at a path.
func touches(ops []events.Op, path string) bool {
	for i := range ops {
		if p := ops[i].Path; strings.HasPrefix(path, p) || strings.HasPrefix(p, path) {
			return true
		}
	}
	return false
}

// text is what a member of the object says, if it is a string.
func (s *standing) text(names ...string) string {
	t, _ := events.Text(s.outline.Lookup(s.raw, names...))
	return t
}

// What an event may have at most, so that no proposal makes a message that NATS
// would not carry: appended in one batch with those of others, it would fail them
// too. The envelope is carried in headers, which may have 64 kB, and in which a
// byte may take three; a message may have 8 MB.
const (
	maxEnvelope = 12 << 10
	maxNote     = 1 << 20
	maxData     = 6 << 20
	// maxObject is what an object may grow to.
	maxObject = 4 << 20
	// maxUID is what a uid may have, of which there is none in the envelope if it is told
	// within the object alone.
	maxUID = 256
)

// control says that a character is none that is read.
func control(r rune) bool { return r < ' ' }

// unwieldy says why a change is too large for the log, or named so that it cannot
// be filed.
func unwieldy(p *events.Proposal, c *events.Change) string {
	envelope := len(p.Asked)
	names := [...]string{
		c.Type, c.Object.Group, c.Object.Resource, c.Object.Namespace, c.Object.Name, c.UID,
		p.Actor.Kind, p.Actor.Name, p.Actor.Version, p.User, p.Audit,
	}
	for _, s := range names {
		envelope += len(s)
	}
	switch {
	case envelope > maxEnvelope:
		return fmt.Sprintf("its names and what its decider was asked have %d bytes together, and may have %d", envelope, maxEnvelope)
	case len(c.Note) > maxNote:
		return fmt.Sprintf("its note has %d bytes, and may have %d", len(c.Note), maxNote)
	case len(c.Data) > maxData:
		return fmt.Sprintf("its data has %d bytes, and may have %d", len(c.Data), maxData)
	case c.Object.Resource == "" || c.Object.Name == "":
		return "it does not say which object it is about"
	}
	// Nor does anything else that is not JSON: whoever writes zeros into the log's files could
	// write what looks like their own.
	for _, s := range names {
		if i := strings.IndexFunc(s, control); i >= 0 {
			return fmt.Sprintf("a name may not hold the character %q", s[i])
		}
	}
	return ""
}
