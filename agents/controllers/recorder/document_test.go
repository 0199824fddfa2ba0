package recorder

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
)

// A note's object is written by hand, as it would be encoded.
func TestDocument(t *testing.T) {
	at := func(second int64) metav1.Time { return metav1.NewTime(time.Unix(second, 0)) }
	ref := events.Ref{Resource: "events", Namespace: "shop", Name: "web.0123"}
	for _, c := range []struct {
		note note
		document
	}{
		{note{
			About:   v1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: "web", UID: "u1", APIVersion: "v1", ResourceVersion: "812", FieldPath: "spec.containers{web}"},
			Warning: true, Reason: "Unhealthy", Message: "a | \"b\" <c> & \u2028 \x00 \xff é", Component: "kubelet", Host: "n1", Sequence: 1 << 60,
		}, document{ref, "u2", at(1), at(2), at(3), 7}},
		{note{About: v1.ObjectReference{Kind: "Node", Name: "n1", UID: "u1", APIVersion: "v1"}, Reason: "NodeReady"}, document{ref, "u2", at(1), metav1.Time{}, at(3), 1}},
	} {
		n, d, kind := c.note, c.document, v1.EventTypeNormal
		if n.Warning {
			kind = v1.EventTypeWarning
		}
		want := runner.Encode(&v1.Event{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "shop", Name: "web.0123", UID: types.UID("u2"), CreationTimestamp: d.created,
				Annotations: map[string]string{sequenceAnnotation: map[bool]string{true: "1152921504606846976", false: "0"}[n.Sequence > 0]},
			},
			InvolvedObject: n.About, Reason: n.Reason, Message: n.Message, Type: kind,
			Source:              v1.EventSource{Component: n.Component, Host: n.Host},
			ReportingController: n.Component, ReportingInstance: n.Host,
			FirstTimestamp: d.first, LastTimestamp: d.last, Count: d.count,
		})
		if got := d.encode(&n); string(got) != string(want) {
			t.Errorf("written is\n%s\nwant\n%s", got, want)
		}
		item, is := n.item()
		if got, ok := parseItem(runner.Item{Ref: item, Because: n.Sequence}); !is || !ok || got != n {
			t.Errorf("the item of %+v is of %+v", n, got)
		}
	}
}
