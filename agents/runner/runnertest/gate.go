package runnertest

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/projections"
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
	var doc object
	if err := json.Unmarshal(c.Body, &doc); err != nil {
		return fmt.Errorf("the body is no JSON object: %w", err)
	}
	apiVersion, _ := doc["apiVersion"].(string)
	kind, _ := doc["kind"].(string)
	if apiVersion == "" || kind == "" {
		return fmt.Errorf("the body lacks apiVersion or kind")
	}
	m := child(doc, "metadata")
	if m["name"] != c.Object.Name || (c.Object.Namespace != "" && m["namespace"] != c.Object.Namespace) {
		return fmt.Errorf("the body is named %v/%v", m["namespace"], m["name"])
	}
	_, err := s.put(schema.FromAPIVersionAndKind(apiVersion, kind), c.Object, doc)
	return err
}

func (s *story) delete(c runner.Command) error {
	e := s.lookup(c.Object)
	if e == nil || (c.UID != "" && c.UID != e.UID) {
		return nil
	}
	if c.Sequence != 0 && c.Sequence != e.Sequence {
		return fmt.Errorf("the precondition is sequence %d, but it is at %d", c.Sequence, e.Sequence)
	}
	grace := graceOf(c, e)
	finalizers := slices.Clone(e.Meta().Finalizers)
	switch metav1.DeletionPropagation(c.Propagation) {
	case metav1.DeletePropagationForeground:
		finalizers = append(finalizers, metav1.FinalizerDeleteDependents)
	case metav1.DeletePropagationOrphan:
		finalizers = append(finalizers, metav1.FinalizerOrphanDependents)
	}
	if grace == 0 && len(finalizers) == 0 {
		_, err := s.remove(c.Object)
		return err
	}
	if e.Meta().DeletionTimestamp != nil && (e.Meta().DeletionGracePeriodSeconds == nil || *e.Meta().DeletionGracePeriodSeconds <= grace) {
		return nil
	}
	var doc object
	if err := json.Unmarshal(e.Raw, &doc); err != nil {
		return err
	}
	m := child(doc, "metadata")
	m["deletionTimestamp"] = stamp(s.now.Add(time.Duration(grace) * time.Second))
	m["deletionGracePeriodSeconds"] = grace
	if g := e.Meta().Generation; g > 0 {
		m["generation"] = g + 1
	}
	if len(finalizers) > 0 {
		m["finalizers"] = finalizers
	}
	_, err := s.put(schema.FromAPIVersionAndKind(doc["apiVersion"].(string), doc["kind"].(string)), c.Object, doc)
	return err
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
