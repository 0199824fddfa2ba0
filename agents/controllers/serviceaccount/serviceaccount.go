// Package serviceaccount gives every active namespace the ServiceAccount that
// its pods run as if they name none. The server runs it; it makes no tokens, for
// those are bound to pods and made on demand.
package serviceaccount

import (
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// name is that of the account that pods get by default.
const name = "default"

// Controller is the runner.Decider.
type Controller struct{}

// New returns the controller.
func New() Controller { return Controller{} }

// Actor is controller:serviceaccount.
func (Controller) Actor() events.Actor {
	return events.Actor{Kind: "controller", Name: "serviceaccount"}
}

// Concerns names the namespace that may lack its account.
func (Controller) Concerns(_ runner.View, c projections.Change) []events.Ref {
	ref := c.Entry().Ref
	switch {
	case ref.Group != "" || c.After == nil && ref.Resource == "namespaces":
		return nil
	case ref.Resource == "namespaces":
		return []events.Ref{ref}
	case ref.Resource == "serviceaccounts" && ref.Name == name && c.After == nil:
		return []events.Ref{{Resource: "namespaces", Name: ref.Namespace}}
	}
	return nil
}

// Decide creates the account of a namespace.
func (Controller) Decide(v runner.View, item runner.Item, _ time.Time) runner.Result {
	ns := v.Get(item.Ref)
	if ns == nil || ns.Meta().DeletionTimestamp != nil || projections.As[v1.Namespace](ns).Status.Phase == v1.NamespaceTerminating {
		return runner.Result{}
	}
	ref := events.Ref{Resource: "serviceaccounts", Namespace: item.Ref.Name, Name: name}
	if v.Get(ref) != nil {
		return runner.Result{}
	}
	account := &v1.ServiceAccount{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
		ObjectMeta: metav1.ObjectMeta{Namespace: ref.Namespace, Name: ref.Name},
	}
	return runner.Result{Commands: []runner.Command{runner.Creation(ref, account, item.Because)}}
}
