package recorder

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	quick "github.com/go-json-experiment/json"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// recorded is the fact that a note was put.
const recorded = "event.recorded"

// SequenceAnnotation is the annotation of a note that holds the sequence of the
// latest fact that it is about.
const SequenceAnnotation = "reprise.run/sequence"

// note is what to tell about a fact, or about the latest of several that are alike.
type note struct {
	About     v1.ObjectReference `json:"about"`
	Warning   bool               `json:"warning,omitempty"`
	Reason    string             `json:"reason"`
	Message   string             `json:"message"`
	Component string             `json:"component"`
	Host      string             `json:"host,omitempty"`
	Sequence  uint64             `json:"sequence"`
}

// latest in place of a sequence is the latest fact that the item is there because of: all
// notes that are alike until one of them is decided are one item.
const latest = 0

// item names the note's work item: the namespace that the note belongs to, and
// the note itself.
func (n note) item() events.Ref {
	raw, err := json.Marshal(n)
	if err != nil {
		panic(fmt.Sprintf("cannot encode a note: %v", err))
	}
	return events.Ref{Resource: "events", Namespace: n.namespace(), Name: string(raw)}
}

func parseItem(item runner.Item) (note, bool) {
	var n note
	err := quick.Unmarshal([]byte(item.Ref.Name), &n)
	if n.Sequence == latest {
		n.Sequence = item.Because
	}
	return n, err == nil && n.Reason != ""
}

// namespace is where the note is filed: with its object, or in default.
func (n note) namespace() string {
	if n.About.Namespace == "" {
		return metav1.NamespaceDefault
	}
	return n.About.Namespace
}

// ref names the note's object by what it says: what is said again is counted.
func (n note) ref() events.Ref {
	sum := sha256.Sum256([]byte(string(n.About.UID) + "\x00" + n.About.FieldPath + "\x00" + n.Reason + "\x00" + n.Message))
	return events.Ref{Resource: "events", Namespace: n.namespace(), Name: n.About.Name + "." + hex.EncodeToString(sum[:8])}
}

// decision puts the note; false if this fact is in it already.
func (n note) decision(notes projections.Reader, now time.Time) (events.Decision, bool) {
	ref := n.ref()
	at := metav1.NewTime(now.UTC().Truncate(time.Second))
	sequence := strconv.FormatUint(n.Sequence, 10)
	ev := &v1.Event{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ref.Namespace, Name: ref.Name, UID: uidOf(ref, n.Sequence), CreationTimestamp: at,
			Annotations: map[string]string{SequenceAnnotation: sequence},
		},
		InvolvedObject: n.About, Reason: n.Reason, Message: n.Message, Type: v1.EventTypeNormal,
		Source:              v1.EventSource{Component: n.Component, Host: n.Host},
		ReportingController: n.Component, ReportingInstance: n.Host,
		FirstTimestamp: at, LastTimestamp: at, Count: 1,
	}
	if n.Warning {
		ev.Type = v1.EventTypeWarning
	}
	var expect uint64
	if e := notes.Get(ref); e != nil {
		old := projections.As[v1.Event](e)
		if told, err := strconv.ParseUint(old.Annotations[SequenceAnnotation], 10, 64); err == nil && told >= n.Sequence {
			return events.Decision{}, false
		}
		expect = e.Sequence
		ev.UID, ev.CreationTimestamp, ev.FirstTimestamp = old.UID, old.CreationTimestamp, old.FirstTimestamp
		ev.Count = old.Count + 1
	}
	return events.Decision{
		Because: n.Sequence,
		Changes: []events.Change{{Type: recorded, Object: ref, UID: string(ev.UID), Data: runner.Encode(ev), Optional: true}},
		Expect:  []events.Expectation{{Object: ref, Sequence: expect}},
	}, true
}

// uidOf is a uid in the usual form, from the note's name and first fact.
func uidOf(ref events.Ref, sequence uint64) types.UID {
	sum := sha256.Sum256([]byte(ref.String() + "\x00" + strconv.FormatUint(sequence, 10)))
	h := hex.EncodeToString(sum[:16])
	return types.UID(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:])
}
