package events

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// gateActor is whom Command finds types for.
var gateActor = Actor{Kind: "api"}

// Command returns what happens when the gate replaces one version of an object
// by another, either of which may be nil for none: the fact with the first rule
// that the gate may write and that covers the change, else "<noun>.created",
// "<noun>.updated" or "<noun>.deleted". It says false if the two are equal. The
// noun is the object's kind in lower case. Data may share the memory of after.
func Command(object Ref, uid string, before, after []byte) (Change, bool, error) {
	for _, doc := range []*[]byte{&before, &after} {
		if *doc == nil || IsCanonical(*doc) {
			continue
		}
		var err error
		if *doc, err = Canonical(*doc); err != nil {
			return Change{Object: object, UID: uid}, false, fmt.Errorf("%s: %w", object, err)
		}
	}
	return CommandCanonical(object, uid, before, after)
}

// CommandCanonical is Command for versions that are known to be canonical.
func CommandCanonical(object Ref, uid string, before, after []byte) (Change, bool, error) {
	c := Change{Object: object, UID: uid}
	if bytes.Equal(before, after) {
		return c, false, nil
	}
	newest := after
	if newest == nil {
		newest = before
	}
	noun, err := nounOf(newest)
	if err != nil {
		return c, false, fmt.Errorf("%s: %w", object, err)
	}
	switch {
	case after == nil:
		c.Type, c.Data = noun+".deleted", Removal()
	case Volatile(object):
		c.Type, c.Data, c.Optional = putType(noun, object), after, true
		c.canonical = extentOf(after)
	case before == nil:
		c.Type, c.Data = noun+".created", after
		c.canonical = extentOf(after)
	default:
		return CommandPatch(object, uid, before, diff(before, after))
	}
	return c, true, nil
}

// CommandPatch is CommandCanonical for a version that differs from one that is there by
// operations, as Diff gives them.
func CommandPatch(object Ref, uid string, before []byte, ops []Op) (Change, bool, error) {
	c := Change{Object: object, UID: uid}
	if len(ops) == 0 {
		return c, false, nil
	}
	noun, err := nounOf(before)
	if err != nil {
		return c, false, fmt.Errorf("%s: %w", object, err)
	}
	c.Type, c.Data = factOf(object, noun, ops), AppendPatch(nil, ops)
	return c, true, nil
}

// factOf finds the type that tells most about a patch.
func factOf(object Ref, noun string, ops []Op) string {
	resource := object.GroupResource()
	for i := range telling {
		r := &telling[i]
		if (r.noun == noun || r.noun == "*") && (r.Resource == resource || r.Resource == "*") && r.fits(ops) {
			return noun + strings.TrimPrefix(r.Type, r.noun)
		}
	}
	return noun + ".updated"
}

// telling holds the rules by which the gate tells facts from changes, in the
// order in which they are tried.
var telling = func() []rule {
	var all []rule
	for _, r := range Rules() {
		ready := r.ready()
		if _, ok := writtenBy([]rule{ready}, gateActor); ok && r.Effect == Changes && len(r.Paths) > 0 {
			all = append(all, ready)
		}
	}
	slices.SortStableFunc(all, func(a, b rule) int { return a.generality() - b.generality() })
	return all
}()

// fits says whether the rule tells what the operations mean: it covers them, and
// at least one of them by its own paths.
func (r *rule) fits(ops []Op) bool {
	return r.checkOps(ops) == "" && slices.ContainsFunc(ops, func(op Op) bool { return covered(op.Path, r.paths) })
}

func putType(noun string, object Ref) string {
	switch object.GroupResource() {
	case "leases.coordination.k8s.io":
		return "lease.renewed"
	case "events", "events.events.k8s.io":
		return "event.recorded"
	}
	return noun + ".put"
}

// nounOf is the object's kind in lower case.
func nounOf(doc []byte) (string, error) {
	kind, ok := Text(Lookup(doc, "kind"))
	if !ok || kind == "" {
		return "", errors.New("the object does not say its kind")
	}
	return strings.ToLower(kind), nil
}
