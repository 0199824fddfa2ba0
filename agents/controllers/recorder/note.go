package recorder

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// recorded is the fact that a note was put.
const recorded = "event.recorded"

// sequenceAnnotation is the annotation of a note that holds the sequence of the
// latest fact that it is about.
const sequenceAnnotation = "reprise.run/sequence"

// note is what to tell about a fact, or about the latest of several that are alike.
type note struct {
	About     v1.ObjectReference
	Warning   bool
	Reason    string
	Message   string
	Component string
	Host      string
	Sequence  uint64
}

// latest in place of a sequence is the latest fact that the item is there because of: all
// notes that are alike until one of them is decided are one item.
const latest = 0

// bar parts what is in an item's name: bars of them, and then the message, which may have
// some itself.
const (
	bar  = "|"
	bars = 12
)

// item names the note's work item: the namespace that the note belongs to, and the note
// itself. It says false if some other part of the note has a bar. Nothing that there is is
// named so, but anybody may name an owner so in his pods, to have another note read from it.
func (n *note) item() (item events.Ref, ok bool) {
	kind, a := v1.EventTypeNormal, &n.About
	if n.Warning {
		kind = v1.EventTypeWarning
	}
	name := strings.Join([]string{
		a.APIVersion, a.Kind, a.Namespace, a.Name, string(a.UID), a.ResourceVersion, a.FieldPath,
		kind, n.Reason, n.Component, n.Host, strconv.FormatUint(n.Sequence, 10), n.Message,
	}, bar)
	item = events.Ref{Resource: "events", Namespace: n.namespace(), Name: name}
	return item, strings.Count(name[:len(name)-len(n.Message)], bar) == bars
}

func parseItem(item runner.Item) (note, bool) {
	rest := item.Ref.Name
	next := func() (part string) {
		part, rest, _ = strings.Cut(rest, bar)
		return part
	}
	about := v1.ObjectReference{
		APIVersion: next(), Kind: next(), Namespace: next(), Name: next(), UID: types.UID(next()), ResourceVersion: next(), FieldPath: next(),
	}
	n := note{About: about, Warning: next() == v1.EventTypeWarning, Reason: next(), Component: next(), Host: next()}
	sequence, err := strconv.ParseUint(next(), 10, 64)
	n.Sequence, n.Message = sequence, rest
	if n.Sequence == latest {
		n.Sequence = item.Because
	}
	return n, err == nil && n.Reason != ""
}

// namespace is where the note is filed: with its object, or in default.
func (n *note) namespace() string {
	if n.About.Namespace == "" {
		return metav1.NamespaceDefault
	}
	return n.About.Namespace
}

// ref names the note's object by what it says: what is said again is counted.
func (n *note) ref() events.Ref {
	sum := sha256.Sum256([]byte(string(n.About.UID) + "\x00" + n.About.FieldPath + "\x00" + n.Reason + "\x00" + n.Message))
	return events.Ref{Resource: "events", Namespace: n.namespace(), Name: n.About.Name + "." + hex.EncodeToString(sum[:8])}
}

// decision puts the note; false if this fact is in it already.
func (n *note) decision(notes projections.Reader, now time.Time) (events.Decision, bool) {
	ref := n.ref()
	at := metav1.NewTime(now.UTC().Truncate(time.Second))
	d := document{ref: ref, created: at, first: at, last: at, count: 1}
	var expect uint64
	if e := notes.Get(ref); e != nil {
		old := projections.As[v1.Event](e)
		if told, err := strconv.ParseUint(old.Annotations[sequenceAnnotation], 10, 64); err == nil && told >= n.Sequence {
			return events.Decision{}, false
		}
		expect = e.Sequence
		d.uid, d.created, d.first, d.count = string(old.UID), old.CreationTimestamp, old.FirstTimestamp, old.Count+1
	} else {
		d.uid = uidOf(ref, n.Sequence)
	}
	return events.Decision{
		Because: n.Sequence,
		Changes: []events.Change{{Type: recorded, Object: ref, UID: d.uid, Data: d.encode(n), Optional: true}},
		Expect:  []events.Expectation{{Object: ref, Sequence: expect}},
	}, true
}

// uidOf is a uid in the usual form, from the note's name and first fact.
func uidOf(ref events.Ref, sequence uint64) string {
	sum := sha256.Sum256([]byte(ref.String() + "\x00" + strconv.FormatUint(sequence, 10)))
	uid := hex.AppendEncode(make([]byte, 0, 36), sum[:4])
	for at := 4; at < 10; at += 2 {
		uid = hex.AppendEncode(append(uid, '-'), sum[at:at+2])
	}
	return string(hex.AppendEncode(append(uid, '-'), sum[10:16]))
}
