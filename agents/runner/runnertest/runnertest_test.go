package runnertest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/runner/runnertest"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// copier is a toy: a ConfigMap with the label copies=yes gets a copy, which goes
// when the label goes.
type copier struct{}

func (copier) Actor() events.Actor { return events.Actor{Kind: "controller", Name: "copier"} }

func (copier) Concerns(_ runner.View, c projections.Change) []events.Ref {
	if c.Entry().Ref.Resource != "configmaps" {
		return nil
	}
	return []events.Ref{c.Entry().Ref}
}

func (copier) Decide(v runner.View, item runner.Item, now time.Time) runner.Result {
	e := v.Get(item.Ref)
	if e == nil {
		return runner.Result{}
	}
	target := item.Ref
	target.Name += "-copy"
	there := v.Get(target)
	switch want := e.Meta().Labels["copies"] == "yes"; {
	case want && there == nil:
		body := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"namespace":%q,"name":%q}}`, target.Namespace, target.Name)
		return runner.Result{Commands: []runner.Command{{Verb: runner.Create, Object: target, Because: item.Because, Body: []byte(body)}}}
	case !want && there != nil:
		return runner.Result{
			Commands: []runner.Command{{Verb: runner.Delete, Object: target, Because: item.Because, UID: there.UID}},
			Wake:     now.Add(time.Minute),
		}
	}
	return runner.Result{}
}

func TestTranscripts(t *testing.T) { runnertest.Run(t, "testdata", copier{}) }
