package runner

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Asked is what a decider was given beside its view of the history and the time,
// and a digest of what it answered. The loop records it as JSON in the Asked of
// every event that comes of a decision, so that the same question can be put
// again, and to another version of the decider. Like the envelope it only ever
// gains optional members.
type Asked struct {
	// By is the actor that was asked, which for a command is not the one that
	// wrote.
	By string `json:"by"`
	// Item, Because, Failures and Failure are the Item's.
	Item     string `json:"item"`
	Because  uint64 `json:"because,omitempty"`
	Failures int    `json:"failures,omitempty"`
	Failure  string `json:"failure,omitempty"`
	// Setup is that of a Tuned decider.
	Setup json.RawMessage `json:"setup,omitempty"`
	// Saw holds the volatile objects that the decider looked at: their log has
	// forgotten them when they are asked for. Kubernetes Events are not among them,
	// for nothing that lasts may rest on one.
	Saw []Seen `json:"saw,omitempty"`
	// Cut says that the rest was too large to be recorded, and what it was.
	Cut string `json:"cut,omitempty"`
	// Answers is how many commands and decisions of the decider's answer are about
	// what lasts, and Digest is Result.Digest of them.
	Answers int    `json:"answers"`
	Digest  string `json:"digest"`
}

// Seen is one version of a volatile object.
type Seen struct {
	Object   string          `json:"object"`
	UID      string          `json:"uid,omitempty"`
	Created  uint64          `json:"created"`
	Sequence uint64          `json:"sequence"`
	Raw      json.RawMessage `json:"raw"`
}

// Tuned is a Decider whose decisions depend also on how it was set up.
type Tuned interface {
	Decider
	// Setup says how, as JSON that the same decider can be made of again; nil for
	// the way it is by default.
	Setup() []byte
}

// Origin is where a command comes from: what the log keeps of it beside the
// command.
type Origin struct {
	Basis uint64
	Now   time.Time
	Asked []byte
}

// maxAsked is how much may be recorded of a question: it is part of an event's
// envelope, for which there is little room.
const maxAsked = 4 << 10

// encode is the JSON of a question.
func (a Asked) encode() []byte {
	out, err := json.Marshal(a)
	if err == nil && len(out) > maxAsked {
		size := len(out)
		a.Saw, a.Setup, a.Failure = nil, nil, ""
		a.Cut = fmt.Sprintf("%d bytes of volatile objects, setup or refusal", size)
		out, err = json.Marshal(a)
	}
	if err != nil {
		panic(fmt.Sprintf("cannot encode what was asked about %s: %v", a.Item, err))
	}
	return out
}

// Lasting is the result without what it does to volatile objects, which is no
// history.
func (r Result) Lasting() Result {
	if !slices.ContainsFunc(r.Commands, volatileCommand) && !slices.ContainsFunc(r.Decisions, volatileDecision) {
		return r
	}
	r.Commands = slices.DeleteFunc(slices.Clone(r.Commands), volatileCommand)
	r.Decisions = slices.DeleteFunc(slices.Clone(r.Decisions), volatileDecision)
	return r
}

func volatileCommand(c Command) bool { return events.Volatile(c.Object) }

func volatileDecision(d events.Decision) bool {
	return len(d.Changes) > 0 && events.Volatile(d.Changes[0].Object)
}

// Digest is a hash of all that the result would do, in order: its commands and
// decisions, and not when it asks to be woken.
func (r Result) Digest() string {
	sum := sha256.New()
	d := digest{bufio.NewWriterSize(sum, 512)}
	for i := range r.Commands {
		c := &r.Commands[i]
		d.text("command")
		d.text(string(c.Verb))
		d.text(c.Object.Text())
		d.bytes(c.Body)
		d.text(c.UID)
		d.text(c.Propagation)
		d.number(c.Because)
		d.number(c.Sequence)
		if c.GracePeriod != nil {
			d.number(uint64(*c.GracePeriod))
		}
	}
	for i := range r.Decisions {
		d.text("decision")
		d.number(r.Decisions[i].Because)
		for j := range r.Decisions[i].Changes {
			c := &r.Decisions[i].Changes[j]
			d.text("change")
			d.text(c.Type)
			d.text(c.Object.Text())
			d.text(c.UID)
			d.bytes(c.Data)
			d.bytes(c.Note)
		}
		for _, x := range r.Decisions[i].Expect {
			d.text("expect")
			d.text(x.Object.Text())
			d.number(x.Sequence)
		}
	}
	d.to.Flush()
	return base64.RawURLEncoding.EncodeToString(sum.Sum(nil)[:16])
}

// digest takes what is hashed, each part with its length before it. A hash takes all that it
// is given, so nothing of this fails.
type digest struct{ to *bufio.Writer }

func (d digest) text(s string) {
	d.length(len(s))
	d.to.WriteString(s)
}

func (d digest) bytes(b []byte) {
	d.length(len(b))
	d.to.Write(b)
}

func (d digest) number(n uint64) {
	d.length(8)
	d.to.Write(binary.BigEndian.AppendUint64(d.to.AvailableBuffer(), n))
}

func (d digest) length(n int) { d.to.Write(binary.AppendUvarint(d.to.AvailableBuffer(), uint64(n))) }

// witness is a Reader that notes which objects are read.
type witness struct {
	projections.Reader
	seen map[events.Ref]*projections.Entry
	list []*projections.Entry
}

// maxSeen bounds what a witness remembers: more has no room in an event anyway.
const maxSeen = 100

func (w *witness) saw(e *projections.Entry) *projections.Entry {
	if e == nil || e.Ref.Resource == "events" || len(w.list) > maxSeen || w.seen[e.Ref] != nil {
		return e
	}
	if w.seen == nil {
		w.seen = map[events.Ref]*projections.Entry{}
	}
	w.seen[e.Ref] = e
	w.list = append(w.list, e)
	return e
}

func (w *witness) each(all iter.Seq[*projections.Entry]) iter.Seq[*projections.Entry] {
	return func(yield func(*projections.Entry) bool) {
		for e := range all {
			if !yield(w.saw(e)) {
				return
			}
		}
	}
}

// Get implements projections.Reader, as do the others.
func (w *witness) Get(ref events.Ref) *projections.Entry { return w.saw(w.Reader.Get(ref)) }

func (w *witness) List(group, resource, namespace string) iter.Seq[*projections.Entry] {
	return w.each(w.Reader.List(group, resource, namespace))
}

func (w *witness) Owned(uid string) iter.Seq[*projections.Entry] { return w.each(w.Reader.Owned(uid)) }

func (w *witness) Uncontrolled(group, resource, namespace string) iter.Seq[*projections.Entry] {
	return w.each(w.Reader.Uncontrolled(group, resource, namespace))
}

func (w *witness) OnNode(node string) iter.Seq[*projections.Entry] {
	return w.each(w.Reader.OnNode(node))
}

// report is what was seen, as it is recorded.
func (w *witness) report() []Seen {
	if w == nil {
		return nil
	}
	var out []Seen
	for _, e := range w.list {
		out = append(out, Seen{Object: e.Ref.Text(), UID: e.UID, Created: e.Created, Sequence: e.Sequence, Raw: e.Raw})
	}
	return out
}

// watched returns the view with a witness in place of the volatile objects, nil
// if there are none.
func watched(v View) (View, *witness) {
	if v.Volatile == nil {
		return v, nil
	}
	w := &witness{Reader: v.Volatile}
	v.Volatile = w
	return v, w
}

// asked is the record of a question that led to something.
func (r *Runner) asked(item Item, saw *witness, result Result) []byte {
	result = result.Lasting()
	n := len(result.Commands) + len(result.Decisions)
	if n == 0 {
		return nil
	}
	return Asked{
		By: r.actor.String(), Item: item.Ref.Text(), Because: item.Because, Failures: item.Failures, Failure: item.Failure,
		Setup: r.setup, Saw: saw.report(), Answers: n, Digest: result.Digest(),
	}.encode()
}
