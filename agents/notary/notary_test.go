package notary

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/proof"
	"github.com/reprise-run/reprise/projections"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// TestTranscripts tells the notary stories: "other N" appends N events of others,
// "decide now=T" asks it, and what it commands is recorded as the signer does.
func TestTranscripts(t *testing.T) {
	datadriven.RunTest(t, "testdata/due.txt", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "new":
			told = newStory(t)
			return ""
		case "other":
			n, err := strconv.Atoi(d.CmdArgs[0].Key)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			for range n {
				told.other()
			}
			return fmt.Sprintf("the log ends at %d\n", told.state.Sequence())
		case "decide":
			var now, before string
			d.ScanArgs(t, "now", &now)
			d.MaybeScanArgs(t, "before", &before)
			after, err := time.ParseDuration(now)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			late, _ := strconv.Atoi(before)
			return told.decide(epoch.Add(after), late)
		}
		d.Fatalf(t, "there is no command %s", d.Cmd)
		return ""
	})
}

var told *story

type story struct {
	t        *testing.T
	notary   Notary
	verifier string
	state    *projections.State
}

func newStory(t *testing.T) *story {
	_, verifier, err := proof.GenerateKey(strings.NewReader(strings.Repeat("k", 100)))
	if err != nil {
		t.Fatal(err)
	}
	changes, err := proof.Changes(verifier, true, []byte("x"), proof.Checkpoint{})
	if err != nil {
		t.Fatal(err)
	}
	return &story{t, New(changes[0].Object, Options{Events: 100, Interval: time.Minute}), verifier, projections.NewState()}
}

func (s *story) fold(e events.Event) {
	s.t.Helper()
	e.Sequence = s.state.Sequence() + 1
	if _, err := s.state.Fold([]events.Event{e}); err != nil {
		s.t.Fatal(err)
	}
}

// other appends an event that is none of the notary's.
func (s *story) other() {
	n := s.state.Sequence() + 1
	s.fold(events.Event{
		Type: "configmap.created", Object: events.Ref{Resource: "configmaps", Namespace: "shop", Name: fmt.Sprint("c", n)}, UID: fmt.Sprint(n),
		Actor: events.Actor{Kind: "api"}, Data: fmt.Appendf(nil, `{"metadata":{"name":"c%d","namespace":"shop","uid":"%[1]d"}}`, n),
	})
}

// decide asks the notary and records a checkpoint that it commands, after as many
// events of others as came between.
func (s *story) decide(now time.Time, between int) string {
	s.t.Helper()
	view := runner.View{Reader: s.state.View()}
	r := s.notary.Decide(view, runner.Item{Ref: s.notary.object, Because: view.Sequence()}, now)
	if len(r.Commands) == 0 && r.Wake.IsZero() {
		return "nothing to do\n"
	}
	if len(r.Commands) == 0 {
		return fmt.Sprintf("wake at %s\n", r.Wake.Sub(epoch))
	}
	size := s.state.Sequence()
	for range between {
		s.other()
	}
	e := s.state.View().Get(s.notary.object)
	changes, err := proof.Changes(s.verifier, e != nil, []byte("note"), proof.Checkpoint{Head: proof.Head{Size: size}, Time: now})
	if err != nil {
		s.t.Fatal(err)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s because %d\n", r.Commands[0].Verb, r.Commands[0].Object, r.Commands[0].Because)
	for _, c := range changes {
		e := events.Event{Type: c.Type, Object: c.Object, UID: c.UID, Optional: c.Optional, Data: c.Data, Actor: s.notary.Actor()}
		s.fold(e)
		fmt.Fprintf(&out, "%d %s of %d\n", s.state.Sequence(), c.Type, size)
	}
	return out.String()
}
