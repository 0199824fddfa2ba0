package replay

import (
	"github.com/reprise-run/reprise/agents/controllers/deployment"
	"github.com/reprise-run/reprise/agents/controllers/garbage"
	"github.com/reprise-run/reprise/agents/controllers/namespace"
	"github.com/reprise-run/reprise/agents/controllers/nodelifecycle"
	"github.com/reprise-run/reprise/agents/controllers/podgc"
	"github.com/reprise-run/reprise/agents/controllers/replicaset"
	"github.com/reprise-run/reprise/agents/controllers/roleaggregation"
	"github.com/reprise-run/reprise/agents/controllers/rootca"
	"github.com/reprise-run/reprise/agents/controllers/serviceaccount"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/scheduler"
)

// Deciders is the Maker of the deciders that a server runs. The recorder is not
// among them: what it writes is no history.
func Deciders(actor string, setup []byte) (runner.Decider, bool, error) {
	var d runner.Decider
	switch actor {
	case "scheduler":
		return withPolicy(setup)
	case "controller:deployment":
		d = deployment.New()
	case "controller:replicaset":
		d = replicaset.New()
	case "controller:nodelifecycle":
		return nodeLifecycle(setup)
	case "controller:podgc":
		d = podgc.New(podgc.Options{})
	case "controller:namespace":
		d = namespace.New()
	case "controller:garbage":
		d = garbage.New()
	case "controller:serviceaccount":
		d = serviceaccount.New()
	case "controller:rootca":
		ca, err := rootca.ParseSetup(orEmpty(setup))
		return rootca.New(ca), true, err
	case "controller:roleaggregation":
		d = roleaggregation.New()
	default:
		return nil, false, nil
	}
	return d, true, nil
}

func withPolicy(setup []byte) (runner.Decider, bool, error) {
	p, err := scheduler.ParsePolicy(orEmpty(setup))
	if err != nil {
		return nil, true, err
	}
	s, err := scheduler.NewWith("", p)
	return s, true, err
}

func nodeLifecycle(setup []byte) (runner.Decider, bool, error) {
	if len(setup) == 0 {
		return nodelifecycle.New(nodelifecycle.Options{}), true, nil
	}
	o, err := nodelifecycle.ParseSetup(setup)
	return nodelifecycle.New(o), true, err
}

func orEmpty(setup []byte) []byte {
	if len(setup) == 0 {
		return []byte("{}")
	}
	return setup
}
