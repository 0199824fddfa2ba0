// Package rootca publishes the certificate by which pods know the API server, as
// the ConfigMap kube-root-ca.crt in every active namespace. The server runs it.
package rootca

import (
	"encoding/json"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

const (
	name = "kube-root-ca.crt"
	key  = "ca.crt"
)

// published is the fact that a ConfigMap holds the certificate again.
const published = "configmap.published"

// Controller is the runner.Decider.
type Controller struct{ ca string }

// New returns the controller for a certificate authority, in PEM.
func New(ca []byte) Controller { return Controller{string(ca)} }

// Actor is controller:rootca.
func (Controller) Actor() events.Actor { return events.Actor{Kind: "controller", Name: "rootca"} }

// Setup is the certificate.
func (c Controller) Setup() []byte {
	out, _ := json.Marshal(map[string]string{"ca": c.ca}) // text always encodes
	return out
}

// ParseSetup returns the certificate that the Setup of a controller tells.
func ParseSetup(text []byte) ([]byte, error) {
	var s struct{ CA string }
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("the setup of the root CA publisher cannot be read: %w", err)
	}
	return []byte(s.CA), nil
}

// Concerns names the namespace whose ConfigMap may be missing or wrong.
func (Controller) Concerns(_ runner.View, c projections.Change) []events.Ref {
	ref := c.Entry().Ref
	switch {
	case ref.Group != "" || c.After == nil && ref.Resource == "namespaces":
		return nil
	case ref.Resource == "namespaces":
		return []events.Ref{ref}
	case ref.Resource == "configmaps" && ref.Name == name:
		return []events.Ref{{Resource: "namespaces", Name: ref.Namespace}}
	}
	return nil
}

// Decide creates the ConfigMap of a namespace, or puts its data right.
func (c Controller) Decide(v runner.View, item runner.Item, _ time.Time) runner.Result {
	ns := v.Get(item.Ref)
	if ns == nil || ns.Meta().DeletionTimestamp != nil || projections.As[v1.Namespace](ns).Status.Phase == v1.NamespaceTerminating {
		return runner.Result{}
	}
	data := map[string]string{key: c.ca}
	ref := events.Ref{Resource: "configmaps", Namespace: item.Ref.Name, Name: name}
	e := v.Get(ref)
	if e == nil {
		m := &v1.ConfigMap{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
			ObjectMeta: metav1.ObjectMeta{Namespace: ref.Namespace, Name: ref.Name, Annotations: map[string]string{
				"kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.",
			}},
			Data: data,
		}
		return runner.Result{Commands: []runner.Command{runner.Creation(ref, m, item.Because)}}
	}
	if have := projections.As[v1.ConfigMap](e).Data; len(have) == 1 && have[key] == c.ca {
		return runner.Result{}
	}
	return runner.Result{Decisions: []events.Decision{runner.Patch(e, published, item.Because, runner.Set("/data", data))}}
}
