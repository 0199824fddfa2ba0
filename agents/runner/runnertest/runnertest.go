// Package runnertest tests deciders by transcript. The tests of every package
// under agents/controllers and of the scheduler call Run; no program does.
//
// A transcript (testdata/*.txt, github.com/cockroachdb/datadriven) tells a story
// to a decider and records all that it decides:
//
//	# One sentence that says the scenario.
//	given
//	replicaset default/web replicas=2 selector={app: web} image=web:1
//	pod default/web-a labels={app: web} owner=replicaset/web node=n1 ready=3s
//	----
//	1 replicaset.created replicasets.apps/default/web
//	2 pod.created pods/default/web-a
//
//	decide now=10s
//	----
//	replicasets.apps/default/web:
//	...
//
// # Commands
//
// "given [at=5s]" folds one event a line. "kind [namespace/]name key=value ..."
// creates the object, or changes it if it is there; "delete kind name" removes
// it. An indented YAML block below a line is merged into the object, and a block
// that begins with "apiVersion:" and ends at "---" is one whole object. Keys are
// paths (spec.replicas=3) or the shorthands of given.go; values are YAML. Times
// count from Epoch. Objects get the defaults that the API gives. The events are
// those that the gate makes of such changes; "given fact=pod.bound by=scheduler"
// makes them that fact of that writer ("user" and "note" are the event's) instead.
//
// "decide now=10s [item=kind/namespace/name] [refuse=text] [brief]" decides the
// items that changes concern or whose wake time has come (or the one named),
// prints each result, and applies it as the gate and the committer would: names
// and bodies as given, uid u<sequence>, time now. refuse refuses each command.
// brief leaves the bodies of created objects out.
//
// "converge now=10s [brief]" decides until nothing is left, printing each step.
//
// "show kind namespace/name [path=/status]" prints an object as YAML.
//
// # What each decision is checked for besides
//
// Decided again on the same view, or on a fresh decoding of it, an item gives
// the same result. The owners table allows each decision, its patch applies, and
// its expectations hold. And fed with its own output again and again, the
// decider falls silent: at last no item that it was ever asked about has anything
// to decide, whether it was concerned or not.
package runnertest

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
)

// Epoch is the time 0s of all transcripts.
var Epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// maxSteps is how often a decider may be fed its own output before it must fall
// silent.
const maxSteps = 50

// Run runs each transcript below dir against the decider.
func Run(t *testing.T, dir string, d runner.Decider) {
	t.Helper()
	datadriven.Walk(t, dir, func(t *testing.T, path string) {
		s := newStory(d)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out, err := s.run(d)
			if err != nil {
				d.Fatalf(t, "%v\n%s", err, out)
			}
			return out
		})
	})
}

func (s *story) run(d *datadriven.TestData) (string, error) {
	a, err := parseArgs(d)
	if err != nil {
		return "", err
	}
	s.now = a.now
	switch d.Cmd {
	case "given":
		s.as = a.as
		defer func() { s.as = disguise{} }()
		return s.given(d.Input)
	case "decide":
		return s.decide(a)
	case "converge":
		return s.converge(a)
	case "show":
		return s.show(d)
	}
	return "", fmt.Errorf("unknown command %q: there are given, decide, converge, show", d.Cmd)
}

type args struct {
	now    time.Time
	item   string
	refuse string
	brief  bool
	as     disguise
}

func parseArgs(d *datadriven.TestData) (args, error) {
	a := args{now: Epoch}
	for _, arg := range d.CmdArgs {
		switch arg.Key {
		case "now", "at":
			if len(arg.Vals) != 1 {
				return a, fmt.Errorf("%s wants one duration since the epoch", arg.Key)
			}
			since, err := time.ParseDuration(arg.Vals[0])
			if err != nil {
				return a, err
			}
			a.now = Epoch.Add(since)
		case "item":
			a.item = strings.Join(arg.Vals, "")
		case "refuse":
			a.refuse = strings.Join(arg.Vals, " ")
		case "brief":
			a.brief = true
		case "fact":
			a.as.fact = strings.Join(arg.Vals, "")
		case "by":
			a.as.by.Kind, a.as.by.Name, _ = strings.Cut(strings.Join(arg.Vals, ""), ":")
		case "user":
			a.as.user = strings.Join(arg.Vals, "")
		case "note":
			a.as.note = []byte(strings.Join(arg.Vals, ","))
		}
	}
	return a, nil
}

// decide decides the items that are due, once each, and then checks on a copy
// that the decider falls silent.
func (s *story) decide(a args) (string, error) {
	due, err := s.due(a)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, item := range due {
		if err := s.step(item, a, &out); err != nil {
			return "", fmt.Errorf("%w\n%s", err, out.String())
		}
	}
	if out.Len() == 0 {
		out.WriteString("nothing\n")
	}
	if a.refuse != "" {
		return out.String(), nil
	}
	if rest, err := s.fork().converge(a); err != nil {
		return "", fmt.Errorf("fed with its own output: %w\n%s", err, rest)
	}
	return out.String(), nil
}

// silent checks that no item that was ever decided has anything left to decide,
// whether something concerned it or not.
func (s *story) silent(a args) error {
	for _, ref := range slices.SortedFunc(maps.Keys(s.items), events.Ref.Compare) {
		item := s.item(ref)
		r := s.decider.Decide(s.view(), item, a.now)
		r.Wake = time.Time{}
		if said := s.print(item, r, a); said != "" {
			return fmt.Errorf("with nothing left to concern it, it still has to say\n%s", said)
		}
	}
	return nil
}

// converge decides until nothing is due.
func (s *story) converge(a args) (string, error) {
	var out strings.Builder
	for step := 1; ; step++ {
		due, err := s.due(a)
		if err != nil {
			return "", err
		}
		var now strings.Builder
		for _, item := range due {
			if err := s.step(item, a, &now); err != nil {
				return out.String() + now.String(), err
			}
		}
		if now.Len() == 0 {
			return out.String() + "quiet\n", s.silent(a)
		}
		fmt.Fprintf(&out, "step %d\n%s", step, indent(now.String()))
		if step == maxSteps {
			return out.String(), fmt.Errorf("not quiet after %d steps", maxSteps)
		}
		a.item = ""
	}
}

// step decides one item, checks and prints the result, and applies it.
func (s *story) step(item runner.Item, a args, out *strings.Builder) error {
	before := s.fork()
	fresh := s.fork()
	fresh.history, fresh.volatile = s.history.copy(true), s.volatile.copy(true)
	r := fresh.decider.Decide(fresh.view(), item, a.now)
	again := fresh.decider.Decide(fresh.view(), item, a.now)
	if !reflect.DeepEqual(r, again) {
		return fmt.Errorf("%s: decided again on the same view, the result differs:\n%s\nand then\n%s",
			item.Ref, before.print(item, r, a), before.print(item, again, a))
	}
	if other := s.decider.Decide(s.view(), item, a.now); !reflect.DeepEqual(r, other) {
		return fmt.Errorf("%s: decided on a fresh decoding of the same view, the result differs, so Decide changes what it is shown:\n%s\nand then\n%s",
			item.Ref, before.print(item, other, a), before.print(item, r, a))
	}
	out.WriteString(s.print(item, r, a))
	return s.apply(item, r, a)
}
