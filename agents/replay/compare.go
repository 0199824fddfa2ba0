package replay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
)

// Difference is a decision that this program does not make as it was made.
type Difference struct {
	// Agent was asked about Item, with the view at Basis and the time Now.
	Agent string    `json:"agent"`
	Item  string    `json:"item"`
	Basis uint64    `json:"basis"`
	Now   time.Time `json:"now"`
	// Sequence is that of the first event that came of it.
	Sequence uint64 `json:"sequence"`
	// Parts say what is different, event by event.
	Parts []Part `json:"parts"`
	// Remark says what cannot be shown.
	Remark string `json:"remark,omitempty"`
}

// Part is what is different about one event.
type Part struct {
	// Event is the headline of the recorded event, or of what this program would
	// have appended or commanded in addition.
	Event string `json:"event"`
	// Recorded and Now are the lines that only the one or the other has.
	Recorded []string `json:"recorded,omitempty"`
	Now      []string `json:"now,omitempty"`
}

// answer is one thing that a decider wants done: a command or a change.
type answer struct {
	command *runner.Command
	change  *events.Change
	because uint64
	used    bool
}

func answersOf(r runner.Result) []answer {
	var all []answer
	for i := range r.Commands {
		all = append(all, answer{command: &r.Commands[i], because: r.Commands[i].Because})
	}
	for _, d := range r.Decisions {
		for i := range d.Changes {
			all = append(all, answer{change: &d.Changes[i], because: d.Because})
		}
	}
	return all
}

// headline is what the answer would be in the log.
func (a *answer) headline(by string) string {
	if a.command != nil {
		return fmt.Sprintf("%s  %s  by %s  because %d", a.command.Verb, a.command.Object, by, a.because)
	}
	return fmt.Sprintf("%s  %s  by %s  because %d", a.change.Type, a.change.Object, by, a.because)
}

// compare says whether this program answers as it was answered, and what is
// different otherwise.
func (q *question) compare(r runner.Result, err error) (Difference, bool) {
	d := Difference{Agent: q.asked.By, Item: q.asked.Item, Basis: q.basis, Now: q.now, Sequence: q.events[0].Sequence}
	if err != nil {
		d.Remark = "this program fails to decide: " + err.Error()
		for i := range q.events {
			d.Parts = append(d.Parts, Part{Event: q.events[i].Headline()})
		}
		return d, false
	}
	r = r.Lasting()
	same := r.Digest() == q.asked.Digest
	answers := answersOf(r)
	for i := range q.events {
		if p, differs := q.compareEvent(&q.events[i], answers, same); differs {
			d.Parts = append(d.Parts, p)
		}
	}
	if same {
		if len(d.Parts) > 0 {
			d.Remark = "the decider answers as it did, but the history has something else"
		}
		return d, len(d.Parts) == 0
	}
	lost := q.asked.Answers - q.answered()
	for i := range answers {
		if a := &answers[i]; !a.used {
			d.Parts = append(d.Parts, Part{Event: a.headline(q.asked.By), Now: a.lines()})
		}
	}
	d.Remark = q.remark(len(r.Commands)+len(r.Decisions), lost, len(d.Parts) == 0)
	return d, false
}

// answered counts the answers that are in the history: commands, which may lead
// to several events on an object, and decisions of one or more events.
func (q *question) answered() int {
	n := 0
	commanded := map[events.Ref]bool{}
	for i := range q.events {
		e := &q.events[i]
		if e.Actor.String() != q.asked.By {
			commanded[e.Object] = true
		} else if !e.More {
			n++
		}
	}
	return n + len(commanded)
}

func (q *question) remark(now, lost int, nothing bool) string {
	var remarks []string
	if now != q.asked.Answers {
		remarks = append(remarks, fmt.Sprintf("%d commands and decisions then, %d now", q.asked.Answers, now))
	}
	if lost > 0 {
		remarks = append(remarks, fmt.Sprintf("%d of those then never reached the log (a conflict, a refusal, or already done), so what is new now may have been among them", lost))
	}
	if nothing {
		remarks = append(remarks, "what the log shows is the same; the rest of a command, an expectation or a cause is not")
	}
	return strings.Join(remarks, "; ")
}

// compareEvent finds the answer that would have become the event, and says how
// they differ. If the digests are the same a command needs no further look.
func (q *question) compareEvent(e *events.Event, answers []answer, same bool) (Part, bool) {
	p := Part{Event: e.Headline()}
	i := find(e, q.asked.By, answers)
	if i < 0 {
		p.Recorded = recordedLines(e)
		return p, true
	}
	a := &answers[i]
	a.used = true
	switch {
	case a.command != nil && same:
		return p, false
	case a.command != nil:
		if a.command.Verb == runner.Create {
			p.Recorded, p.Now = missing(a.command.Body, e.Data)
		}
	default:
		p.Recorded, p.Now = onlyIn(recordedLines(e), a.lines())
	}
	if a.because != e.Cause {
		p.Recorded = append(p.Recorded, fmt.Sprintf("because %d", e.Cause))
		p.Now = append(p.Now, fmt.Sprintf("because %d", a.because))
	}
	return p, len(p.Recorded)+len(p.Now) > 0
}

// find returns the index of the answer that an event came of: of the same object
// and type, or else of the same object.
func find(e *events.Event, by string, answers []answer) int {
	command := e.Actor.String() != by
	verb := runner.Delete
	if effect, _ := events.EffectOf(e.Type, e.Object); effect == events.Creates {
		verb = runner.Create
	}
	for _, exact := range []bool{true, false} {
		i := slices.IndexFunc(answers, func(a answer) bool {
			switch {
			case command: // One that deletes may have taken two steps.
				return a.command != nil && a.command.Object == e.Object && a.command.Verb == verb
			}
			return a.change != nil && !a.used && a.change.Object == e.Object && (a.change.Type == e.Type || !exact)
		})
		if i >= 0 {
			return i
		}
	}
	return -1
}

func sameFact(c *events.Change, e *events.Event) bool {
	return c.Type == e.Type && c.Object == e.Object && bytes.Equal(c.Data, e.Data) && bytes.Equal(c.Note, e.Note)
}

// lines is what an answer does, an operation a line.
func (a *answer) lines() []string {
	if a.command != nil {
		return commandLines(a.command)
	}
	return changeLines(a.change.Type, a.change.Data, a.change.Note)
}

func recordedLines(e *events.Event) []string { return changeLines(e.Type, e.Data, e.Note) }

func changeLines(typ string, data, note []byte) []string {
	lines := []string{typ}
	if ops, err := events.ParsePatch(data); err == nil {
		for _, op := range ops {
			lines = append(lines, op.String())
		}
	} else {
		lines = append(lines, string(data))
	}
	if len(note) > 0 {
		lines = append(lines, "note "+string(note))
	}
	return lines
}

func commandLines(c *runner.Command) []string {
	lines := []string{}
	if len(c.Body) > 0 {
		lines = append(lines, string(c.Body))
	}
	if c.UID != "" {
		lines = append(lines, "uid "+c.UID)
	}
	if c.Sequence != 0 {
		lines = append(lines, fmt.Sprintf("at sequence %d", c.Sequence))
	}
	if c.GracePeriod != nil {
		lines = append(lines, fmt.Sprintf("grace period %d s", *c.GracePeriod))
	}
	if c.Propagation != "" {
		lines = append(lines, "propagation "+c.Propagation)
	}
	return lines
}

// onlyIn returns the lines that only the one or the other has.
func onlyIn(a, b []string) (inA, inB []string) {
	for _, s := range a {
		if !slices.Contains(b, s) {
			inA = append(inA, s)
		}
	}
	for _, s := range b {
		if !slices.Contains(a, s) {
			inB = append(inB, s)
		}
	}
	return inA, inB
}

// missing compares an object that is commanded with the one that the gate stored
// for the command of before: what is asked for now and was not stored. What was
// stored and is not asked for may be what admission put in, so it is not told.
func missing(commanded, stored []byte) (recorded, now []string) {
	var want, have any
	if json.Unmarshal(commanded, &want) != nil || json.Unmarshal(stored, &have) != nil {
		return nil, []string{string(commanded)}
	}
	walk("", want, have, func(path string, want, have any) {
		now = append(now, path+" "+compact(want))
		if have != nil {
			recorded = append(recorded, path+" "+compact(have))
		}
	})
	return recorded, now
}

// walk calls differ for each value in want that have lacks.
func walk(path string, want, have any, differ func(path string, want, have any)) {
	switch w := want.(type) {
	case nil: // as good as left out
	case map[string]any:
		h, _ := have.(map[string]any)
		keys := make([]string, 0, len(w))
		for k := range w {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			walk(path+"/"+k, w[k], h[k], differ)
		}
	case []any:
		h, _ := have.([]any)
		for i, v := range w {
			walk(path+"/"+strconv.Itoa(i), v, counterpart(v, i, h), differ)
		}
	default:
		if want != have {
			differ(path, want, have)
		}
	}
}

// counterpart finds in a list that admission may have added to what an element
// has become: the one of its name, or at its place.
func counterpart(v any, i int, list []any) any {
	if m, ok := v.(map[string]any); ok && m["name"] != nil {
		for _, h := range list {
			if o, ok := h.(map[string]any); ok && o["name"] == m["name"] {
				return h
			}
		}
		return nil
	}
	if i < len(list) {
		return list[i]
	}
	return nil
}

func compact(v any) string {
	out, _ := json.Marshal(v) // it was decoded from JSON
	return string(out)
}
