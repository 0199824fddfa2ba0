// Package nodelifecycle watches over nodes: one that does not renew its lease is
// said to be lost, what is wrong with a node keeps pods away from it by taints,
// and pods that do not tolerate the taints of their node are evicted. The runner
// drives it. It never says that a node is ready, for only the node knows.
//
// An item is a node (its health, its taints, the readiness of its pods) or a pod
// on a tainted node (its eviction).
package nodelifecycle

import (
	"encoding/json"
	"fmt"
	"time"

	core "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/agents/controllers/objects"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Options are what the decider goes by.
type Options struct {
	// Grace is for how long a node may be silent; 40 s by default.
	Grace time.Duration
	// Since is when nodes could first be heard: the start of this process. What
	// they did not say before then is not held against them.
	Since time.Time
}

const defaultGrace = 40 * time.Second

// New returns the decider.
func New(o Options) runner.Decider {
	if o.Grace == 0 {
		o.Grace = defaultGrace
	}
	return decider{o}
}

type decider struct{ Options }

func (decider) Actor() events.Actor {
	return events.Actor{Kind: "controller", Name: "nodelifecycle"}
}

// Setup is the options, of which Since differs from run to run.
func (d decider) Setup() []byte {
	out, _ := json.Marshal(setup{d.Grace.String(), d.Since}) // text and times of our years always encode
	return out
}

type setup struct {
	Grace string    `json:"grace"`
	Since time.Time `json:"since"`
}

// ParseSetup returns the options that the Setup of a decider tells.
func ParseSetup(text []byte) (Options, error) {
	var s setup
	if err := json.Unmarshal(text, &s); err != nil {
		return Options{}, fmt.Errorf("the setup of the node lifecycle controller cannot be read: %w", err)
	}
	grace, err := time.ParseDuration(s.Grace)
	if err != nil {
		return Options{}, fmt.Errorf("the setup of the node lifecycle controller has no proper grace: %w", err)
	}
	return Options{Grace: grace, Since: s.Since}, nil
}

// Concerns names the node that changed, and the pods whose node's taints may
// drive them away. Renewals of leases concern nobody: a node's lease is looked at
// when it would have expired.
func (decider) Concerns(v runner.View, c projections.Change) []events.Ref {
	ref := c.Entry().Ref
	switch {
	case objects.IsNode(ref):
		return concernedByNode(v, c)
	case objects.IsPod(ref):
		return concernedByPod(v, c)
	}
	return nil
}

func concernedByNode(v runner.View, c projections.Change) []events.Ref {
	if c.After == nil {
		return nil
	}
	refs := []events.Ref{c.After.Ref}
	taints := driving(projections.As[core.Node](c.After))
	if len(taints) == 0 || (c.Before != nil && sameTaints(taints, driving(projections.As[core.Node](c.Before)))) {
		return refs
	}
	for e := range v.OnNode(c.After.Ref.Name) {
		refs = append(refs, e.Ref)
	}
	return refs
}

// concernedByPod looks only at what may change where a pod runs or what it
// tolerates, for most of what happens to a pod is neither.
func concernedByPod(v runner.View, c projections.Change) []events.Ref {
	switch c.Event.Fact() {
	case "", "created", "bound", "updated", "disrupted":
	default:
		return nil
	}
	if c.After == nil || c.After.Node() == "" {
		return nil
	}
	node := v.Get(objects.Node(c.After.Node()))
	if node == nil || len(driving(projections.As[core.Node](node))) == 0 {
		return nil
	}
	return []events.Ref{c.After.Ref}
}

// Decide looks after one node, or one pod on a tainted node.
func (d decider) Decide(v runner.View, item runner.Item, now time.Time) runner.Result {
	e := v.Get(item.Ref)
	switch {
	case e == nil:
		return runner.Result{}
	case objects.IsPod(item.Ref):
		return evict(v, e, item.Because, now)
	}
	return d.tend(v, e, item.Because, now)
}
