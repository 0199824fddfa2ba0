package api

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/reprise-run/reprise/agents/api/storage/storagetest"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// document is a pod as the log has it, bound to a node.
func document(name, uid, node string) []byte {
	return fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Pod","metadata":{"managedFields":[{"manager":"m"}],"name":%q,"namespace":"shop","uid":%q},"spec":{"nodeName":%q}}`, name, uid, node)
}

// The informer has what the projection has: what was there when it began, and what
// has happened since, by the sequences of the log.
func TestInformerOfPods(t *testing.T) {
	log := storagetest.NewLog(t, false)
	propose := func(name, uid, before, after string) uint64 {
		t.Helper()
		ref := events.Ref{Resource: "pods", Namespace: "shop", Name: name}
		doc := func(node string) []byte {
			if node == "" {
				return nil
			}
			return document(name, uid, node)
		}
		return log.Command(t, ref, uid, doc(before), doc(after))
	}
	first := propose("a", "u1", "", "n1")

	f := informers.NewSharedInformerFactory(kubernetes.NewForConfigOrDie(&restclient.Config{Host: "http://127.0.0.1:0"}), 0)
	if err := informersFrom(log.Live, f); err != nil {
		t.Fatal(err)
	}
	heard := make(chan string)
	tell := func(what string, o any) {
		p := o.(*corev1.Pod)
		heard <- fmt.Sprintf("%s %s %s on %s at %s, %d managers", what, p.Name, p.UID, p.Spec.NodeName, p.ResourceVersion, len(p.ManagedFields))
	}
	_, err := f.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { tell("added", o) },
		UpdateFunc: func(_, o any) { tell("updated", o) },
		DeleteFunc: func(o any) { tell("deleted", o) },
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Start(t.Context().Done())
	expect := func(format string, args ...any) {
		t.Helper()
		want := fmt.Sprintf(format, args...) + ", 0 managers"
		if got := <-heard; got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
	}
	expect("added a u1 on n1 at %d", first)
	expect("added b u2 on n1 at %d", propose("b", "u2", "", "n1"))
	expect("updated a u1 on n2 at %d", propose("a", "u1", "n1", "n2"))
	expect("deleted b u2 on n1 at %d", propose("b", "u2", "n1", ""))
	if _, err := pods.watch(t.Context(), log.Live, "soon"); !apierrors.IsBadRequest(err) {
		t.Errorf("watching from a version that is none: %v", err)
	}
}

// Of nodes each version is told, those that differ in their status alone too.
func TestInformerOfNodes(t *testing.T) {
	log := storagetest.NewLog(t, false)
	version := func(ready string) []byte {
		return fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Node","metadata":{"managedFields":[{"manager":"m"}],"name":"n1","uid":"u1"},"status":{"conditions":[{"status":%q,"type":"Ready"}]}}`, ready)
	}
	w, err := nodes.watch(t.Context(), log.Live, "0")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	var before []byte
	for _, step := range []struct {
		after []byte
		want  string
	}{
		{version("False"), "MODIFIED n1 at 1: False, 0 managers"},
		{version("True"), "MODIFIED n1 at 2: True, 0 managers"},
		{nil, "DELETED n1 at 3: True, 0 managers"},
	} {
		log.Command(t, events.Ref{Resource: "nodes", Name: "n1"}, "u1", before, step.after)
		e := <-w.ResultChan()
		n := e.Object.(*corev1.Node)
		if got := fmt.Sprintf("%s %s at %s: %s, %d managers", e.Type, n.Name, n.ResourceVersion, n.Status.Conditions[0].Status, len(n.ManagedFields)); got != step.want {
			t.Errorf("heard %q, want %q", got, step.want)
		}
		before = step.after
	}
}

// What a node tells of a pod concerns nobody who judges by pods, but for claims.
func TestStatusConcernsNobody(t *testing.T) {
	pod := func(metadata, spec, status string) *projections.Entry {
		ref := events.Ref{Resource: "pods", Namespace: "shop", Name: "a"}
		return projections.NewEntry(ref, "u", 1, 1, fmt.Appendf(nil, `{"metadata":{%s},"spec":{%s},"status":{%s}}`, metadata, spec, status))
	}
	before := pod(`"uid":"u"`, `"nodeName":"n"`, `"phase":"Pending"`)
	for name, test := range map[string]struct {
		after *projections.Entry
		want  bool
	}{
		"a phase":           {pod(`"uid":"u"`, `"nodeName":"n"`, `"phase":"Running"`), false},
		"a node":            {pod(`"uid":"u"`, `"nodeName":"m"`, `"phase":"Pending"`), true},
		"an end":            {pod(`"deletionTimestamp":"2026-01-01T00:00:00Z","uid":"u"`, `"nodeName":"n"`, `"phase":"Pending"`), true},
		"a claim":           {pod(`"uid":"u"`, `"nodeName":"n"`, `"phase":"Pending","resourceClaimStatuses":[{"name":"c"}]`), true},
		"an extended claim": {pod(`"uid":"u"`, `"nodeName":"n"`, `"extendedResourceClaimStatus":{"resourceClaimName":"c"},"phase":"Pending"`), true},
		"a removal":         {nil, true},
	} {
		var patch []byte
		if test.after != nil {
			var err error
			if patch, err = events.Diff(before.Raw, test.after.Raw); err != nil {
				t.Fatal(err)
			}
		}
		if got := concerns(projections.Change{Event: &events.Event{Data: patch}, Before: before, After: test.after}); got != test.want {
			t.Errorf("%s concerns those who judge: %v, want %v", name, got, test.want)
		}
	}
	if !concerns(projections.Change{Event: &events.Event{Data: before.Raw}, After: before}) {
		t.Error("a new pod concerns nobody")
	}
}

// Of what has happened at a time to one pod, informers hear the last, and each end.
func TestPodEvents(t *testing.T) {
	entry := func(name, uid, node string, sequence uint64) *projections.Entry {
		return &projections.Entry{Ref: events.Ref{Resource: "pods", Namespace: "shop", Name: name}, UID: uid, Sequence: sequence, Raw: document(name, uid, node)}
	}
	a1, a2, a3, b := entry("a", "u1", "", 1), entry("a", "u1", "n1", 2), entry("a", "u2", "n2", 5), entry("b", "u3", "n1", 3)
	other := &projections.Entry{Ref: events.Ref{Resource: "nodes", Name: "n1"}}
	at := func(sequence uint64) *events.Event { return &events.Event{Sequence: sequence} }
	got := ""
	for _, e := range pods.events([]projections.Change{
		{Event: at(1), After: a1}, {Event: at(2), Before: a1, After: a2}, {Event: at(3), After: b}, {Event: at(3), After: other},
		{Event: at(4), Before: a2}, {Event: at(5), After: a3},
	}) {
		p := e.Object.(*corev1.Pod)
		got += fmt.Sprintf("%s %s %s at %s\n", e.Type, p.Name, p.UID, p.ResourceVersion)
	}
	if want := fmt.Sprintf("%s b u3 at 3\n%s a u1 at 4\n%s a u2 at 5\n", watch.Modified, watch.Deleted, watch.Modified); got != want {
		t.Errorf("told is\n%s, want\n%s", got, want)
	}
}
