package runnertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// command does what the gate does with a command, as far as deciders can tell.
func (s *story) command(c runner.Command) error {
	switch c.Verb {
	case runner.Create:
		return s.create(c)
	case runner.Delete:
		return s.delete(c)
	}
	return fmt.Errorf("unknown verb %q", c.Verb)
}

func (s *story) create(c runner.Command) error {
	if s.lookup(c.Object) != nil {
		return nil
	}
	gvk, doc, err := bodyOf(c)
	if err != nil {
		return err
	}
	_, err = s.put(gvk, c.Object, doc)
	return err
}

func (s *story) delete(c runner.Command) error {
	e := s.lookup(c.Object)
	if e == nil || (c.UID != "" && c.UID != e.UID) {
		return nil
	}
	after, err := deleted(e, c, s.now)
	if err != nil || bytes.Equal(after, e.Raw) {
		return err
	}
	_, err = s.gated(c.Object, e.UID, e, after)
	return err
}

// bodyOf reads the object that a command creates.
func bodyOf(c runner.Command) (schema.GroupVersionKind, object, error) {
	var doc object
	if err := json.Unmarshal(c.Body, &doc); err != nil {
		return schema.GroupVersionKind{}, nil, fmt.Errorf("the body is no JSON object: %w", err)
	}
	apiVersion, _ := doc["apiVersion"].(string)
	kind, _ := doc["kind"].(string)
	if apiVersion == "" || kind == "" {
		return schema.GroupVersionKind{}, nil, fmt.Errorf("the body lacks apiVersion or kind")
	}
	m := child(doc, "metadata")
	if m["name"] != c.Object.Name || (c.Object.Namespace != "" && m["namespace"] != c.Object.Namespace) {
		return schema.GroupVersionKind{}, nil, fmt.Errorf("the body is named %v/%v", m["namespace"], m["name"])
	}
	return schema.FromAPIVersionAndKind(apiVersion, kind), doc, nil
}

// deleted is what a deletion makes of an object: nil if it is gone at once, the
// same if it is being deleted already.
func deleted(e *projections.Entry, c runner.Command, now time.Time) ([]byte, error) {
	if c.Sequence != 0 && c.Sequence != e.Sequence {
		return nil, fmt.Errorf("the precondition is sequence %d, but it is at %d", c.Sequence, e.Sequence)
	}
	m := e.Meta()
	grace := graceOf(c, e)
	finalizers := slices.Clone(m.Finalizers)
	switch metav1.DeletionPropagation(c.Propagation) {
	case metav1.DeletePropagationForeground:
		finalizers = append(finalizers, metav1.FinalizerDeleteDependents)
	case metav1.DeletePropagationOrphan:
		finalizers = append(finalizers, metav1.FinalizerOrphanDependents)
	}
	if grace == 0 && len(finalizers) == 0 {
		return nil, nil
	}
	if m.DeletionTimestamp != nil && (m.DeletionGracePeriodSeconds == nil || *m.DeletionGracePeriodSeconds <= grace) {
		return e.Raw, nil
	}
	var doc object
	if err := json.Unmarshal(e.Raw, &doc); err != nil {
		return nil, err
	}
	meta := child(doc, "metadata")
	meta["deletionTimestamp"] = stamp(now.Add(time.Duration(grace) * time.Second))
	meta["deletionGracePeriodSeconds"] = grace
	if m.Generation > 0 {
		meta["generation"] = m.Generation + 1
	}
	if len(finalizers) > 0 {
		meta["finalizers"] = finalizers
	}
	after, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	return events.Canonical(after)
}

// Gate is a gate over a log, for tests that run several deciders together: it
// sets defaults and does what the API does by itself, and admits everything.
type Gate struct {
	Projection live.Projection
	Proposer   events.Proposer
	Now        func() time.Time
	// User is the person on whose behalf it writes; empty for agents.
	User string
	// UID makes the uid of an object that is created; by default one of its name
	// and cause.
	UID func() string
}

// Do implements runner.Gate.
func (g Gate) Do(ctx context.Context, _ events.Actor, c runner.Command) (uint64, error) {
	return g.write(ctx, c, func(e *projections.Entry, uid string) ([]byte, error) {
		switch {
		case c.Verb == runner.Create && e != nil, c.Verb == runner.Delete && (e == nil || (c.UID != "" && c.UID != e.UID)):
			return nil, errNothing
		case c.Verb == runner.Create:
			gvk, doc, err := bodyOf(c)
			if err != nil {
				return nil, err
			}
			return stored(gvk, c.Object, nil, doc, uid, g.Now())
		}
		return deleted(e, c, g.Now())
	})
}

// Update changes an object as a person's request does. It does nothing if there is
// no such object.
func (g Gate) Update(ctx context.Context, ref events.Ref, change func(doc map[string]any)) (uint64, error) {
	return g.write(ctx, runner.Command{Object: ref}, func(e *projections.Entry, _ string) ([]byte, error) {
		if e == nil {
			return nil, errNothing
		}
		var doc object
		if err := json.Unmarshal(e.Raw, &doc); err != nil {
			return nil, err
		}
		change(doc)
		gvk := schema.FromAPIVersionAndKind(doc["apiVersion"].(string), doc["kind"].(string))
		return stored(gvk, ref, e, doc, e.UID, g.Now())
	})
}

// errNothing says that there is nothing to write.
var errNothing = errors.New("nothing to do")

// write proposes what becomes of an object, again if it has changed meanwhile.
func (g Gate) write(ctx context.Context, c runner.Command, become func(e *projections.Entry, uid string) ([]byte, error)) (uint64, error) {
	for {
		e := g.Projection.View().Get(c.Object)
		var before []byte
		expect := events.Expectation{Object: c.Object}
		uid := fmt.Sprintf("%s-%d", c.Object.Name, c.Because)
		switch {
		case e != nil:
			before, uid, expect.Sequence = e.Raw, e.UID, e.Sequence
		case g.UID != nil:
			uid = g.UID()
		}
		after, err := become(e, uid)
		if errors.Is(err, errNothing) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		change, some, err := events.Command(c.Object, uid, before, after)
		if err != nil {
			return 0, err
		}
		if !some {
			return e.Sequence, nil
		}
		receipt, err := g.Proposer.Propose(ctx, events.Proposal{
			Actor: events.Actor{Kind: "api"}, User: g.User, Basis: c.Origin.Basis, Now: c.Origin.Now, Asked: c.Origin.Asked,
			Decision: events.Decision{Because: c.Because, Changes: []events.Change{change}, Expect: []events.Expectation{expect}},
		})
		var conflict *events.ConflictError
		if errors.As(err, &conflict) {
			if err := g.Projection.Wait(ctx, conflict.Actual); err != nil {
				return 0, err
			}
			continue
		}
		if err != nil {
			return 0, err
		}
		return receipt.Last, g.Projection.Wait(ctx, receipt.Last)
	}
}

// graceOf is the grace period that the gate settles on: a bound pod that has not
// ended gets what it asks for, all else none.
func graceOf(c runner.Command, e *projections.Entry) int64 {
	if e.Ref.Group != "" || e.Ref.Resource != "pods" {
		return 0
	}
	var pod struct {
		Spec struct {
			NodeName                      string
			TerminationGracePeriodSeconds *int64
		}
		Status struct{ Phase string }
	}
	if err := json.Unmarshal(e.Raw, &pod); err != nil {
		panic(fmt.Sprintf("%s is no pod: %v", e.Ref, err))
	}
	switch {
	case pod.Spec.NodeName == "" || pod.Status.Phase == "Succeeded" || pod.Status.Phase == "Failed":
		return 0
	case c.GracePeriod != nil:
		return *c.GracePeriod
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		return *pod.Spec.TerminationGracePeriodSeconds
	}
	return 30
}
