package history

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// Subject is the event that a question about an object is about.
type Subject struct {
	// Sequence is the event's.
	Sequence uint64
	// Remark is what there is to say about the object as it stands now, in a
	// sentence; may be empty.
	Remark string
}

// SubjectOf finds what a person means who asks why an object is as it is. Of a pod
// that has no node it is that the scheduler found none, and else the newest event
// of its containers; of any other object it is its newest event. A pod that has no
// node comes with the reason.
func SubjectOf(ctx context.Context, r Reader, q Query) (Subject, error) {
	var s Subject
	var err error
	types := []string{""}
	if q.Object.Resource == "pods" && q.Object.Group == "" {
		if s.Remark, err = waiting(r, q); err != nil {
			return s, err
		}
		types = []string{"container.*", ""}
		if s.Remark != "" {
			types = []string{"pod.unschedulable", ""}
		}
	}
	for _, typ := range types {
		of := q
		of.Type, of.Backward, of.Limit, of.Bare = typ, true, 1, true
		for e, err := range r.Events(ctx, of) {
			s.Sequence = e.Sequence
			return s, err
		}
	}
	return s, fmt.Errorf("there never was an object %s%s", q.Object, q.UID)
}

// waiting says why a pod has no node, and nothing of one that has, had or needs
// none.
func waiting(r Reader, q Query) (string, error) {
	pod, err := r.At(q.Object, r.Folded())
	if err != nil || pod == nil || (q.UID != "" && q.UID != pod.UID) {
		return "", err
	}
	var p struct {
		Metadata struct{ DeletionTimestamp *string }
		Spec     struct {
			NodeName, SchedulerName string
			SchedulingGates         []struct{ Name string }
		}
		Status struct {
			Phase      string
			Conditions []struct{ Type, Status, Reason, Message string }
		}
	}
	if err := json.Unmarshal(pod.Raw, &p); err != nil {
		return "", fmt.Errorf("%s cannot be read: %w", q.Object, err)
	}
	if p.Spec.NodeName != "" || p.Metadata.DeletionTimestamp != nil || p.Status.Phase == "Failed" || p.Status.Phase == "Succeeded" {
		return "", nil
	}
	if len(p.Spec.SchedulingGates) > 0 {
		var gates []string
		for _, g := range p.Spec.SchedulingGates {
			gates = append(gates, g.Name)
		}
		return fmt.Sprintf("%s is not scheduled: it waits until its scheduling gates are taken away: %s.", pod.Ref, strings.Join(gates, ", ")), nil
	}
	for _, c := range p.Status.Conditions {
		if c.Type == "PodScheduled" && c.Status == "False" && c.Message != "" {
			return fmt.Sprintf("%s is not scheduled: %s.", pod.Ref, strings.TrimSuffix(c.Message, ".")), nil
		}
	}
	if name := p.Spec.SchedulerName; name != "" && name != "default-scheduler" {
		return fmt.Sprintf("%s is not scheduled: it is for the scheduler %q, which has not spoken of it.", pod.Ref, name), nil
	}
	return fmt.Sprintf("%s is not scheduled: the scheduler has not decided about it yet.", pod.Ref), nil
}
