package recorder

import (
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/events"
)

// document is what a note's object holds beside the note.
type document struct {
	ref                  events.Ref
	uid                  string
	created, first, last metav1.Time
	count                int32
}

// encode returns a v1.Event in canonical JSON, the members in the order of their names.
// A pod's life has four, so none is made of a Go type first.
func (d *document) encode(n *note) []byte {
	o := make(object, 0, 1024)
	o = append(o, `{"apiVersion":"v1"`...)
	o.number("count", d.count)
	o = append(o, `,"eventTime":null`...)
	o.time("firstTimestamp", d.first)
	o.begin("involvedObject")
	o.text("apiVersion", n.About.APIVersion)
	o.text("fieldPath", n.About.FieldPath)
	o.text("kind", n.About.Kind)
	o.text("name", n.About.Name)
	o.text("namespace", n.About.Namespace)
	o.text("resourceVersion", n.About.ResourceVersion)
	o.text("uid", string(n.About.UID))
	o = append(o, `},"kind":"Event"`...)
	o.time("lastTimestamp", d.last)
	o.text("message", n.Message)
	o.begin("metadata")
	o.begin("annotations")
	o.text(sequenceAnnotation, strconv.FormatUint(n.Sequence, 10))
	o = append(o, '}')
	o.time("creationTimestamp", d.created)
	o.text("name", d.ref.Name)
	o.text("namespace", d.ref.Namespace)
	o.text("uid", d.uid)
	o = append(o, '}')
	o.text("reason", n.Reason)
	o.name("reportingComponent")
	o = events.AppendString(o, n.Component)
	o.name("reportingInstance")
	o = events.AppendString(o, n.Host)
	o.begin("source")
	o.text("component", n.Component)
	o.text("host", n.Host)
	o = append(o, '}')
	if n.Warning {
		o.text("type", v1.EventTypeWarning)
	} else {
		o.text("type", v1.EventTypeNormal)
	}
	return append(o, '}')
}

// object is a JSON object that is being written.
type object []byte

func (o *object) name(name string) {
	if (*o)[len(*o)-1] != '{' {
		*o = append(*o, ',')
	}
	*o = append(events.AppendString(*o, name), ':')
}

func (o *object) begin(name string) {
	o.name(name)
	*o = append(*o, '{')
}

// text writes a member, unless its value is empty.
func (o *object) text(name, value string) {
	if value != "" {
		o.name(name)
		*o = events.AppendString(*o, value)
	}
}

func (o *object) number(name string, n int32) {
	o.name(name)
	*o = strconv.AppendInt(*o, int64(n), 10)
}

func (o *object) time(name string, t metav1.Time) {
	o.name(name)
	if t.IsZero() {
		*o = append(*o, "null"...)
		return
	}
	*o = append(t.UTC().AppendFormat(append(*o, '"'), time.RFC3339), '"')
}
