package replay

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// question is one that a decider was asked, with what came of it.
type question struct {
	asked  runner.Asked
	item   runner.Item
	basis  uint64
	now    time.Time
	raw    string         // asked, as it was recorded
	events []events.Event // what is in the history of the answers
	// guess says that the log is too old to tell the item.
	guess bool
	// unread is why asked cannot be read.
	unread string
}

// Why a decision cannot be compared.
const (
	reasonNode    = "what a node saw of its containers is not in the history"
	reasonCommand = "the log is from before it was recorded what a command came of"
	reasonItem    = "the log is from before it was recorded what was asked, and the answer is not to be found by asking around"
	reasonBasis   = "the view that it was made on lies before the beginning of what is replayed"
)

// file finds out whether an event came of a decision, and of which.
func (r *Replay) file(e *events.Event) {
	if e.Sequence < r.opts.From || r.opts.To != 0 && e.Sequence > r.opts.To {
		return
	}
	if r.report.From == 0 {
		r.report.From = e.Sequence
	}
	switch {
	case len(e.Asked) > 0:
	case e.Actor.Kind == "node":
		r.skip(e, reasonNode)
		return
	case e.Actor.Kind == "notary":
		r.report.Given++ // a signature, which depends on a key
		return
	case e.Actor.Kind == "api" && e.Cause != 0 && strings.HasPrefix(e.User, controllers):
		r.skip(e, reasonCommand)
		return
	case e.Actor.Kind == "api" || e.Basis == 0:
		r.report.Given++
		return
	}
	if e.Basis < r.state.Sequence() || e.Basis >= e.Sequence {
		r.skipFar(e)
		return
	}
	due := r.due[e.Basis]
	for _, q := range slices.Backward(due) {
		if q.raw == string(e.Asked) && q.now.Equal(e.Now) && !q.guess {
			q.events = append(q.events, *e)
			return
		}
	}
	r.due[e.Basis] = append(due, newQuestion(e))
}

// controllers begins the names of the service accounts that controllers act under.
const controllers = "system:serviceaccount:kube-system:"

func (r *Replay) skip(e *events.Event, reason string) {
	by := e.Actor.String()
	if e.Actor.Kind == "api" {
		by = "controller:" + strings.TrimSuffix(strings.TrimPrefix(e.User, controllers), "-controller")
	}
	t := r.report.tally(by)
	t.Decisions++
	t.Events++
	t.skip(reason)
}

func (r *Replay) skipFar(e *events.Event) {
	reason := reasonBasis
	switch {
	case e.Basis >= e.Sequence:
		reason = "the view that it says it was made on had not happened yet"
	case e.Basis >= r.began:
		reason = fmt.Sprintf("it was appended more than %d events after the view that it was made on", r.opts.Ahead)
	}
	q := newQuestion(e)
	t := r.report.tally(q.asked.By)
	t.Decisions++
	t.Events++
	t.skip(reason)
}

func newQuestion(e *events.Event) *question {
	q := &question{raw: string(e.Asked), basis: e.Basis, now: e.Now, events: []events.Event{*e}}
	if len(e.Asked) == 0 {
		q.guess = true
		q.asked = runner.Asked{By: e.Actor.String()}
		return q
	}
	if err := json.Unmarshal(e.Asked, &q.asked); err != nil {
		q.asked.By = e.Actor.String()
		q.unread = "what was asked cannot be read: " + err.Error()
		return q
	}
	ref, err := events.ParseRef(q.asked.Item)
	if err != nil {
		q.unread = "what was asked cannot be read: " + err.Error()
	}
	q.item = runner.Item{Ref: ref, Because: q.asked.Because, Failures: q.asked.Failures, Failure: q.asked.Failure}
	return q
}

// unanswerable is why the question cannot be put again.
func (q *question) unanswerable() string {
	switch {
	case q.unread != "":
		return q.unread
	case q.asked.Cut != "":
		return "not all that the decider was given had room in the event"
	}
	for _, s := range q.asked.Saw {
		if _, err := events.ParseRef(s.Object); err != nil {
			return "what was asked cannot be read: " + err.Error()
		}
	}
	return ""
}

// view is what the decider saw: the history, and of the volatile objects those
// that it looked at.
func (q *question) view(history projections.Reader) runner.View {
	volatile := projections.NewVolatileState()
	for _, s := range q.asked.Saw {
		ref, _ := events.ParseRef(s.Object) // checked by unanswerable
		volatile.Put(projections.NewEntry(ref, s.UID, s.Created, s.Sequence, s.Raw))
	}
	return runner.View{Reader: history, Volatile: volatile.View()}
}

// askAround asks about the items that an event of an old log may have come of:
// its object, whoever owns that, and all objects of the resource. The answer
// must have been the event to the byte.
func (r *Replay) askAround(q *question, d runner.Decider, tally *Tally) {
	e := &q.events[0]
	view := q.view(r.state.View())
	candidates := []events.Ref{e.Object, {Group: e.Object.Group, Resource: e.Object.Resource}}
	if entry := view.Get(e.Object); entry != nil {
		candidates = append(candidates, ownersOf(entry)...)
	}
	for _, ref := range candidates {
		item := runner.Item{Ref: ref, Because: e.Cause}
		var note struct{ Trigger uint64 }
		if json.Unmarshal(e.Note, &note) == nil && note.Trigger != 0 {
			item.Because = note.Trigger
		}
		result, err := decide(d, view, item, q.now)
		if err != nil {
			continue
		}
		for _, a := range answersOf(result) {
			if a.change != nil && a.because == e.Cause && sameFact(a.change, e) {
				tally.Equal++
				return
			}
		}
	}
	tally.skip(reasonItem)
}

// ownersOf guesses the references of an object's owners.
func ownersOf(e *projections.Entry) []events.Ref {
	var refs []events.Ref
	for _, o := range e.Meta().OwnerReferences {
		refs = append(refs, ownerRef(e.Ref.Namespace, o))
	}
	return refs
}

func ownerRef(namespace string, o metav1.OwnerReference) events.Ref {
	group, _, ok := strings.Cut(o.APIVersion, "/")
	if !ok {
		group = ""
	}
	return events.Ref{Group: group, Resource: strings.ToLower(o.Kind) + "s", Namespace: namespace, Name: o.Name}
}
