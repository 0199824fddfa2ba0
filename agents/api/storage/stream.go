package storage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// Source is a log as the API server needs it: a projection to read, and a way
// to append.
type Source struct {
	Projection live.Projection
	Proposer   events.Proposer
}

// stream reads, writes and watches the objects of one log. Its revisions are the
// log's sequences.
type stream struct {
	Source
	actor    events.Actor
	patience time.Duration
	hub      *hub
	sealer   Sealer
	kept     kept
	// floor is the oldest revision that may still be read.
	floor atomic.Uint64
}

func newStream(ctx context.Context, source Source, o Options, begin first) (*stream, error) {
	s := &stream{Source: source, actor: o.Actor, patience: o.Patience, sealer: o.Sealer}
	if err := s.begin(ctx, begin); err != nil {
		return nil, err
	}
	s.hub = newHub(source.Projection)
	go s.hub.run(ctx)
	go s.hub.report(ctx, o.Progress)
	go s.tend(ctx, o.Progress)
	return s, nil
}

// past is the state as of a revision: a view, and what it must be corrected by.
type past struct {
	projections.Reader
	revision uint64
	// then holds the objects that have changed since, as they were; nil is one
	// that was not there.
	then map[events.Ref]*projections.Entry
}

// at returns the state as of a revision, 0 for the present one. It is computed
// from the present by taking back the changes since, which the projection keeps
// for a while: that is what the first pages of lists need, and no more is promised. At
// which a list was begun is kept.
func (s *stream) at(ctx context.Context, revision uint64) (past, error) {
	now := s.Projection.View()
	switch last := now.Sequence(); {
	case revision == 0 || revision == last:
		return past{Reader: now, revision: last}, nil
	case revision > last:
		return past{}, rpctypes.ErrFutureRev
	case revision < s.floor.Load():
		return past{}, rpctypes.ErrCompacted
	}
	if p, ok := s.kept.at(revision); ok {
		return p, nil
	}
	changes, err := s.Projection.Changes(ctx, revision)
	if err != nil {
		return past{}, tooOld(err)
	}
	p := past{Reader: now, revision: revision, then: map[events.Ref]*projections.Entry{}}
	for {
		batch, err := changes.Next(ctx)
		if err != nil {
			return past{}, tooOld(err)
		}
		for _, c := range batch {
			if c.Event.Sequence > now.Sequence() {
				return p, nil
			}
			if _, known := p.then[c.Event.Object]; !known && c.Event.Sequence > revision {
				p.then[c.Event.Object] = c.Before
			}
			if c.Event.Sequence == now.Sequence() {
				return p, nil
			}
		}
	}
}

func tooOld(err error) error {
	if errors.Is(err, live.ErrTooOld) {
		return rpctypes.ErrCompacted
	}
	return err
}

func (p past) get(ref events.Ref) *projections.Entry {
	if e, changed := p.then[ref]; changed {
		return e
	}
	return p.Get(ref)
}

// list returns the objects within a scope, in no order.
func (p past) list(scope events.Ref) []*projections.Entry {
	var found []*projections.Entry
	for e := range p.List(scope.Group, scope.Resource, scope.Namespace) {
		if _, changed := p.then[e.Ref]; !changed && within(scope, e.Ref) {
			found = append(found, e)
		}
	}
	for _, e := range p.then {
		if e != nil && within(scope, e.Ref) {
			found = append(found, e)
		}
	}
	return found
}

// within says whether an object is of the scope's resource and namespace and,
// if it has one, name.
func within(scope, r events.Ref) bool {
	return r.Group == scope.Group && r.Resource == scope.Resource &&
		(scope.Namespace == "" || r.Namespace == scope.Namespace) &&
		(scope.Name == "" || r.Name == scope.Name && r.Namespace == scope.Namespace)
}

// outcome is how a write ended.
type outcome struct {
	// done says that the object is now as the writer wants it, since revision.
	// Otherwise it was not as the writer expected, and current is how it stood
	// at revision, nil for absent.
	done     bool
	revision uint64
	current  *projections.Entry
}

// put replaces the object that was last changed at the expected revision, 0 for
// absent, and returns when this server has folded that. A value that changes
// nothing is not appended.
func (s *stream) put(ctx context.Context, ref events.Ref, value []byte, expected uint64) (outcome, error) {
	doc, uid, err := toLog(value)
	if err != nil {
		return outcome{}, err
	}
	return s.write(ctx, ref, uid, doc, expected)
}

// remove deletes the object that was last changed at the expected revision.
func (s *stream) remove(ctx context.Context, ref events.Ref, expected uint64) (outcome, error) {
	return s.write(ctx, ref, "", nil, expected)
}

// write does either, given the canonical document that is to be, nil for none.
func (s *stream) write(ctx context.Context, ref events.Ref, uid string, doc []byte, expected uint64) (o outcome, err error) {
	made := false
	defer func() { s.settle(ctx, ref, uid, doc == nil, made, o, err) }()
	return s.change(ctx, ref, expected, func(ctx context.Context, current *projections.Entry) (events.Change, bool, error) {
		var before, known []byte
		if current != nil {
			before, uid = current.Raw, cmp.Or(uid, current.UID)
			if current.UID == uid { // It is no other object of that name.
				known = before
			}
		}
		sealed, first, err := s.sealer.Seal(ctx, ref, uid, known, doc)
		made = made || first
		if err != nil {
			return events.Change{}, false, statusOf(err)
		}
		if same(sealed, doc) { // and so canonical, as what the log has
			return events.CommandCanonical(ref, uid, before, sealed)
		}
		return events.Command(ref, uid, before, sealed)
	})
}

// change has something happen to the object that was last changed at the expected
// revision: what is made of it as it stands, nil for absent. It returns when this server
// has folded that. What changes nothing is not appended.
func (s *stream) change(ctx context.Context, ref events.Ref, expected uint64,
	of func(context.Context, *projections.Entry) (change events.Change, changed bool, err error)) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	for {
		view := s.Projection.View()
		var actual uint64
		current := view.Get(ref)
		if current != nil {
			actual = current.Sequence
		}
		if actual != expected {
			return outcome{revision: view.Sequence(), current: current}, nil
		}
		change, changed, err := of(ctx, current)
		if err != nil {
			return outcome{}, err
		}
		if !changed {
			return outcome{done: true, revision: max(actual, 1)}, nil
		}
		proposal := s.proposal(ctx, change, expected)
		receipt, err := s.Proposer.Propose(ctx, proposal)
		if errors.Is(err, events.ErrUncertain) {
			receipt, err = s.look(ctx, view.Sequence(), proposal, err)
		}
		var conflict *events.ConflictError
		switch {
		case errors.As(err, &conflict):
			// Somebody else was faster: look again once that is folded here.
			if err := s.Projection.Wait(ctx, max(conflict.Actual, view.Sequence()+1)); err != nil {
				return outcome{}, statusOf(fmt.Errorf("%s has changed, but this server has not read how (%w): %w", ref, err, events.ErrUnavailable))
			}
		case err != nil:
			return outcome{}, statusOf(err)
		default:
			deedOf(ctx).written.Store(receipt.Last)
			if err := s.Projection.Wait(ctx, receipt.Last); err != nil {
				return outcome{}, statusOf(fmt.Errorf("sequence %d is in the log, but this server has not read it yet (%w): %w", receipt.Last, err, events.ErrUncertain))
			}
			return outcome{done: true, revision: receipt.Last}, nil
		}
	}
}

// look finds out what became of a proposal whose answer was lost. If it is in the
// log it soon is in the projection; if something else has happened to the object,
// it can no longer be appended; and if nothing does, nobody knows yet.
func (s *stream) look(ctx context.Context, after uint64, p events.Proposal, lost error) (events.Receipt, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.patience/4)
	defer cancel()
	changes, err := s.Projection.Changes(ctx, after)
	if err != nil {
		return events.Receipt{}, lost
	}
	want := p.Changes[0]
	for {
		batch, err := changes.Next(ctx)
		if err != nil {
			return events.Receipt{}, lost
		}
		for _, c := range batch {
			e := c.Event
			switch {
			case e.Object != want.Object:
			case e.Type == want.Type && e.Audit == p.Audit && e.User == p.User && bytes.Equal(e.Data, want.Data):
				return events.Receipt{First: e.Sequence, Last: e.Sequence}, nil
			default:
				return events.Receipt{}, &events.ConflictError{Object: want.Object, Expected: p.Expect[0].Sequence, Actual: e.Sequence}
			}
		}
	}
}

// proposal says on whose behalf the change is made, and because of what.
func (s *stream) proposal(ctx context.Context, change events.Change, expected uint64) events.Proposal {
	deed := deedOf(ctx)
	p := events.Proposal{
		Decision: events.Decision{
			Because: deed.Cause,
			Changes: []events.Change{change},
			Expect:  []events.Expectation{{Object: change.Object, Sequence: expected}},
		},
		Actor: s.actor,
		Basis: deed.Basis, Now: deed.Now, Asked: deed.Asked,
		User:  serverUser,
		Audit: string(audit.GetAuditIDTruncated(ctx)),
	}
	if u, ok := request.UserFrom(ctx); ok {
		p.User = u.GetName()
	}
	return p
}

// serverUser is who writes what no request asked for: allocations of addresses
// and ports, and the server's own leases.
const serverUser = "system:apiserver"
