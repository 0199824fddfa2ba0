package namespace

import (
	"fmt"
	"maps"
	"math/bits"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// report is the decision to say in the namespace's conditions what is left in
// it; false if they say so already.
func report(e *projections.Entry, ns *v1.Namespace, left content, item runner.Item, now time.Time) (events.Decision, bool) {
	conditions := slices.Clone(ns.Status.Conditions)
	changed := false
	for _, want := range wanted(left, item) {
		want.LastTransitionTime = metav1.NewTime(now.UTC().Truncate(time.Second))
		i := slices.IndexFunc(conditions, func(c v1.NamespaceCondition) bool { return c.Type == want.Type })
		switch {
		case i < 0:
			conditions = append(conditions, want)
		case conditions[i].Status != want.Status:
			conditions[i] = want
		case conditions[i].Reason != want.Reason || magnitude(conditions[i].Message) != magnitude(want.Message):
			conditions[i].Reason, conditions[i].Message = want.Reason, want.Message
		default:
			continue
		}
		changed = true
	}
	if !changed {
		return events.Decision{}, false
	}
	return runner.Patch(e, draining, item.Because, runner.Set("/status/conditions", conditions)), true
}

// magnitude is a message with its numbers rounded to powers of two. A namespace
// with thousands of objects that go one by one would otherwise write as many
// events about itself; so the count that it shows is off by less than half.
func magnitude(message string) string {
	return number.ReplaceAllStringFunc(message, func(n string) string {
		u, err := strconv.ParseUint(n, 10, 64)
		if err != nil {
			return n
		}
		return strconv.Itoa(bits.Len64(u))
	})
}

var number = regexp.MustCompile(`\b\d+\b`)

// wanted are the conditions that upstream's namespace controller maintains, in
// its order and words.
func wanted(left content, item runner.Item) []v1.NamespaceCondition {
	failure := good(v1.NamespaceDeletionContentFailure, "ContentDeleted", "All content successfully deleted, may be waiting on finalization")
	if item.Failures > 0 {
		failure = bad(v1.NamespaceDeletionContentFailure, "ContentDeletionFailed", "Failed to delete all resource types, 1 remaining: "+item.Failure)
	}
	resources, finalizers := left.counts()
	remaining := good(v1.NamespaceContentRemaining, "ContentRemoved", "All content successfully removed")
	if len(resources) > 0 {
		remaining = bad(v1.NamespaceContentRemaining, "SomeResourcesRemain",
			"Some resources are remaining: "+join(resources, "%s has %d resource instances"))
	}
	waiting := good(v1.NamespaceFinalizersRemaining, "ContentHasNoFinalizers", "All content-preserving finalizers finished")
	if len(finalizers) > 0 {
		waiting = bad(v1.NamespaceFinalizersRemaining, "SomeFinalizersRemain",
			"Some content in the namespace has finalizers remaining: "+join(finalizers, "%s in %d resource instances"))
	}
	return []v1.NamespaceCondition{
		// What there is in the namespace is known from the log, so discovery
		// cannot fail.
		good(v1.NamespaceDeletionDiscoveryFailure, "ResourcesDiscovered", "All resources successfully discovered"),
		good(v1.NamespaceDeletionGVParsingFailure, "ParsedGroupVersions", "All legacy kube types successfully parsed"),
		failure, remaining, waiting,
	}
}

func good(t v1.NamespaceConditionType, reason, message string) v1.NamespaceCondition {
	return v1.NamespaceCondition{Type: t, Status: v1.ConditionFalse, Reason: reason, Message: message}
}

func bad(t v1.NamespaceConditionType, reason, message string) v1.NamespaceCondition {
	return v1.NamespaceCondition{Type: t, Status: v1.ConditionTrue, Reason: reason, Message: message}
}

// counts is how many objects are left of each resource, and how many have each
// finalizer.
func (c content) counts() (resources, finalizers map[string]int) {
	resources, finalizers = map[string]int{}, map[string]int{}
	for _, e := range c.objects {
		resources[e.Ref.Resource+"."+e.Ref.Group]++
		for _, f := range e.Meta().Finalizers {
			finalizers[f]++
		}
	}
	return resources, finalizers
}

func join(counts map[string]int, format string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, fmt.Sprintf(format, name, counts[name]))
	}
	return strings.Join(out, ", ")
}
