// Package roleaggregation fills in the rules of ClusterRoles that are made of
// others: those with an aggregationRule get the rules of all ClusterRoles that
// its selectors match. The server runs it.
package roleaggregation

import (
	"slices"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// aggregated is the fact that a role's rules are now those of its parts.
const aggregated = "clusterrole.aggregated"

var roles = events.Ref{Group: rbacv1.GroupName, Resource: "clusterroles"}

// Controller is the runner.Decider.
type Controller struct{}

// New returns the controller.
func New() Controller { return Controller{} }

// Actor is controller:roleaggregation.
func (Controller) Actor() events.Actor {
	return events.Actor{Kind: "controller", Name: "roleaggregation"}
}

// Concerns names the role itself, and the aggregates of which it was or is a
// part.
func (Controller) Concerns(v runner.View, c projections.Change) []events.Ref {
	ref := c.Entry().Ref
	if ref.Group != roles.Group || ref.Resource != roles.Resource {
		return nil
	}
	var out []events.Ref
	for e := range v.List(roles.Group, roles.Resource, "") {
		if whole := projections.As[rbacv1.ClusterRole](e); e.Ref == ref || isPart(whole, c.Before) || isPart(whole, c.After) {
			out = append(out, e.Ref)
		}
	}
	return out
}

// Decide gives an aggregate the rules of its parts, in the order of their names.
func (Controller) Decide(v runner.View, item runner.Item, _ time.Time) runner.Result {
	e := v.Get(item.Ref)
	if e == nil {
		return runner.Result{}
	}
	whole := projections.As[rbacv1.ClusterRole](e)
	if whole.AggregationRule == nil || whole.DeletionTimestamp != nil {
		return runner.Result{}
	}
	rules := []rbacv1.PolicyRule{}
	for part := range v.List(roles.Group, roles.Resource, "") {
		if !isPart(whole, part) {
			continue
		}
		for _, rule := range projections.As[rbacv1.ClusterRole](part).Rules {
			if !slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(r, rule) }) {
				rules = append(rules, rule)
			}
		}
	}
	if equality.Semantic.DeepEqual(rules, whole.Rules) {
		return runner.Result{}
	}
	return runner.Result{Decisions: []events.Decision{runner.Patch(e, aggregated, item.Because, runner.Set("/rules", rules))}}
}

// isPart says whether the aggregate takes in a role, which may be nil for none.
// No role is a part of itself. A selector that is wrong selects nothing.
func isPart(whole *rbacv1.ClusterRole, part *projections.Entry) bool {
	if part == nil || whole.AggregationRule == nil || part.Ref.Name == whole.Name {
		return false
	}
	return slices.ContainsFunc(whole.AggregationRule.ClusterRoleSelectors, func(s metav1.LabelSelector) bool {
		selector, err := metav1.LabelSelectorAsSelector(&s)
		return err == nil && selector.Matches(labels.Set(part.Meta().Labels))
	})
}
