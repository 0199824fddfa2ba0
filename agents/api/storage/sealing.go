package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Sealer keeps values of some objects unreadable in the log. See agents/api/seal.
type Sealer interface {
	// Covers says whether the objects of a resource are sealed.
	Covers(r events.Ref) bool
	// Seal returns a document as the log may keep it, and whether it made a key
	// for that: if the document is not appended after all, it is to be forgotten.
	// before is what the log has of the object now, nil for nothing.
	Seal(ctx context.Context, r events.Ref, uid string, before, doc []byte) (sealed []byte, made bool, err error)
	// Reveal returns a document as it was before, or without the values that can
	// no longer be read.
	Reveal(ctx context.Context, r events.Ref, uid string, doc []byte) ([]byte, error)
	// Forget destroys the key of an object that is gone, or was never there.
	Forget(ctx context.Context, r events.Ref, uid string)
}

// open seals nothing.
type open struct{}

func (open) Covers(events.Ref) bool { return false }

func (open) Seal(_ context.Context, _ events.Ref, _ string, _, doc []byte) ([]byte, bool, error) {
	return doc, false, nil
}

func (open) Reveal(_ context.Context, _ events.Ref, _ string, doc []byte) ([]byte, error) {
	return doc, nil
}

func (open) Forget(context.Context, events.Ref, string) {}

// settle destroys the key of an object that a write has removed, or that a write
// made a key for and has not made. What may have been appended keeps its key: if it
// was not, the key is found to have no object later on.
func (s *stream) settle(ctx context.Context, ref events.Ref, uid string, removal, made bool, o outcome, err error) {
	if uid == "" || err != nil || !(removal && o.done || made && !o.done) {
		return
	}
	if e := s.Projection.View().Get(ref); e == nil || e.UID != uid {
		s.sealer.Forget(context.WithoutCancel(ctx), ref, uid)
	}
}

// reveal is an entry as etcd has it, with the values that its document stands for.
func (s *stream) reveal(ctx context.Context, key []byte, e *projections.Entry) (*mvccpb.KeyValue, error) {
	doc, err := s.sealer.Reveal(ctx, e.Ref, e.UID, e.Raw)
	if err != nil {
		return nil, err
	}
	return keyValue(key, e, doc)
}

// SealAll seals what lies in the clear and is to be sealed: objects that were
// written by a version that did not, or before their resource was listed. It
// returns how many there were. What the log says of them up to now stays as it is.
func (b *Backend) SealAll(ctx context.Context) (sealed int, err error) {
	view := b.history.Projection.View()
	for r := range view.Resources() {
		if !b.history.sealer.Covers(r) {
			continue
		}
		for e := range view.List(r.Group, r.Resource, "") {
			did, err := b.history.sealOne(ctx, e)
			if err != nil {
				return sealed, fmt.Errorf("%s lies unencrypted in the log and cannot be encrypted: %w", e.Ref, err)
			}
			if did {
				sealed++
			}
		}
	}
	return sealed, nil
}

// sealOne seals one object, unless it is sealed or somebody changes it meanwhile,
// who seals it.
func (s *stream) sealOne(ctx context.Context, e *projections.Entry) (did bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	plain, err := s.sealer.Reveal(ctx, e.Ref, e.UID, e.Raw)
	if err != nil {
		return false, err
	}
	if len(plain) != len(e.Raw) || !bytes.Equal(plain, e.Raw) {
		return false, nil // It has sealed values, and so was written sealed.
	}
	sealed, made, err := s.sealer.Seal(ctx, e.Ref, e.UID, nil, e.Raw)
	if err != nil {
		return false, err
	}
	change, changed, err := events.Command(e.Ref, e.UID, e.Raw, sealed)
	if err != nil || !changed {
		if made {
			s.sealer.Forget(ctx, e.Ref, e.UID)
		}
		return false, err
	}
	noun, _, _ := strings.Cut(change.Type, ".")
	change.Type = noun + ".sealed"
	receipt, err := s.Proposer.Propose(ctx, s.proposal(ctx, change, e.Sequence))
	var conflict *events.ConflictError
	if errors.As(err, &conflict) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, s.Projection.Wait(ctx, receipt.Last)
}
