package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/reprise-run/reprise/events"
)

// Who reads an object whose values cannot be read is shown it without them, and may
// write what he was shown back, with a label changed. So a value that is written as
// it was shown stays as it lies in the log: the key may come back.

const (
	annotationsPath   = "/metadata/annotations"
	lastAppliedPath   = annotationsPath + "/" + "kubectl.kubernetes.io~1last-applied-configuration"
	managedFieldsPath = "/metadata/managedFields/fieldsV1"
	statusPath        = "/status"
)

// rewrite is what a document is to be that replaces one with sealed values.
type rewrite struct {
	// doc is the document without our annotations, and whole also has the sealed
	// values that it leaves as they were shown.
	doc, whole []byte
	// kept are the places of these values, but of what tells nothing that is not told
	// elsewhere or again.
	kept []string
	// fresh are the places of other values that are to be sealed.
	fresh []string
}

// unreadable returns a document that is to replace another one, before, without the
// annotations that say that this was shown without values. If its values cannot be
// read, and it is written back as it was shown, they stay, and there is nothing left
// to seal: whole. What would take some of them away unseen is refused. Both documents
// are canonical.
func (k *Keeper) unreadable(ctx context.Context, r events.Ref, uid string, before, doc []byte) (_ []byte, whole bool, err error) {
	shown := bytes.Contains(doc, []byte(Erased)) || bytes.Contains(doc, []byte(Unreadable))
	if !hasSealed(before) {
		if shown {
			doc, err = withoutMarks(before, doc)
		}
		return doc, false, err
	}
	key, err := k.key(ctx, r, uid)
	switch {
	case errors.Is(err, ErrErased):
	case err != nil || !shown:
		return doc, false, err
	default:
		_, err = key.openAll(r, before)
	}
	readable := err == nil
	w, err := rewriteOf(r, before, doc)
	switch {
	case err != nil:
		return nil, false, err
	case len(w.kept) == 0 && len(w.fresh) > 0:
		return w.doc, false, nil
	case readable && len(w.kept) > 0:
		return nil, false, apierrors.NewConflict(schema.GroupResource{Group: r.Group, Resource: r.Resource}, r.Name, fmt.Errorf(
			"it was read when its values could not be, and now they can; read it again, or take out its annotations %s and %s", Erased, Unreadable))
	case readable:
		return w.doc, false, nil
	case len(w.fresh) > 0 && k.Covers(r):
		return nil, false, apierrors.NewBadRequest(fmt.Sprintf(
			"%s has values that cannot be read any more (%s), and is shown without them: to write others (%s), write all of them anew or take them out, or put back the copy of the vault that has its key",
			r, strings.Join(w.kept, ", "), strings.Join(w.fresh, ", ")))
	}
	return w.whole, true, nil
}

// rewriteOf finds out what a document leaves as it was shown of the sealed values of
// the one before.
func rewriteOf(r events.Ref, before, doc []byte) (*rewrite, error) {
	_, keyed := simple[r.GroupResource()]
	sealed := map[string][]byte{}
	var order []string
	_, err := edit(r, before, func(path string, value []byte) ([]byte, error) {
		if isSealed(value) && path != managedFieldsPath {
			sealed[path], order = value, append(order, path)
		}
		return value, nil
	})
	if err != nil {
		return nil, err
	}
	l := &rewrite{}
	if l.doc, err = withoutMarks(before, doc); err != nil {
		return nil, err
	}
	there := map[string]bool{}
	whole, err := edit(r, l.doc, func(path string, value []byte) ([]byte, error) {
		there[path] = true
		was := sealed[path]
		switch {
		case path == managedFieldsPath:
			return value, nil
		case was != nil && keyed && path != lastAppliedPath && string(value) == `""`:
			l.kept = append(l.kept, path)
			return was, nil
		}
		l.fresh = append(l.fresh, path)
		return value, nil
	})
	if err != nil {
		return nil, err
	}
	var ops []events.Op
	for _, path := range order {
		if there[path] || keyed && path != lastAppliedPath {
			continue // It was written anew, or taken out.
		}
		if path != lastAppliedPath && path != statusPath {
			l.kept = append(l.kept, path)
		}
		ops = append(ops, events.Op{Op: "add", Path: path, Value: sealed[path]})
	}
	if len(l.kept) == 0 && len(l.fresh) > 0 {
		return l, nil // What else there was is of values that are no more.
	}
	for _, op := range ops {
		if whole, err = put(whole, op); err != nil {
			return nil, err
		}
	}
	if !keyed {
		whole, err = keepManagers(before, whole)
	}
	l.whole = whole
	return l, err
}

// put adds a value, and the object that it is to be in if that is not there.
func put(doc []byte, op events.Op) ([]byte, error) {
	parent := op.Path[:strings.LastIndexByte(op.Path, '/')]
	if parent == "" || events.Lookup(doc, strings.Split(parent[1:], "/")...) != nil {
		return events.ApplyOps(doc, []events.Op{op})
	}
	return events.ApplyOps(doc, []events.Op{{Op: "add", Path: parent, Value: []byte("{}")}, op})
}

// keepManagers puts back the sealed fields of the managers that are as they were
// shown. Those of others are left out: there is no key to seal them by.
func keepManagers(before, doc []byte) ([]byte, error) {
	fieldless := func(m []byte) ([]byte, error) {
		return editMembers(m, func(name string, value []byte) ([]byte, error) {
			if name == "fieldsV1" {
				return []byte("{}"), nil
			}
			return value, nil
		})
	}
	was := map[string][]byte{}
	if managers := events.Lookup(before, "metadata", "managedFields"); managers != nil && managers[0] == '[' {
		for _, m := range events.Elements(managers) {
			shown, err := fieldless(m)
			if err != nil {
				return nil, err
			}
			was[string(shown)] = m
		}
	}
	now := events.Lookup(doc, "metadata", "managedFields")
	if now == nil || now[0] != '[' {
		return doc, nil
	}
	out := []byte{'['}
	for i, m := range events.Elements(now) {
		same := was[string(m)]
		if same == nil {
			var err error
			if same, err = fieldless(m); err != nil {
				return nil, err
			}
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, same...)
	}
	return events.ApplyOps(doc, []events.Op{{Op: "replace", Path: "/metadata/managedFields", Value: append(out, ']')}})
}

// withoutMarks takes the annotations out of a document that only say how it was
// shown.
func withoutMarks(before, doc []byte) ([]byte, error) {
	annotations := events.Lookup(doc, "metadata", "annotations")
	if annotations == nil || annotations[0] != '{' {
		return doc, nil
	}
	rest, err := editMembers(annotations, func(name string, value []byte) ([]byte, error) {
		if name == Erased || name == Unreadable {
			return nil, nil
		}
		return value, nil
	})
	if err != nil || len(rest) == len(annotations) {
		return doc, err
	}
	op := events.Op{Op: "replace", Path: annotationsPath, Value: rest}
	if string(rest) == "{}" && events.Lookup(before, "metadata", "annotations") == nil {
		op = events.Op{Op: "remove", Path: annotationsPath}
	}
	return events.ApplyOps(doc, []events.Op{op})
}
