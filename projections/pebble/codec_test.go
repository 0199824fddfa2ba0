package pebble

import (
	"reflect"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
)

// An envelope is read as it was written, with and without the fields that came
// later.
func TestEnvelope(t *testing.T) {
	at := time.UnixMilli(1767323045678).UTC()
	want := events.Event{
		Sequence: 8, Type: "pod.bound", Object: events.Ref{Resource: "pods", Namespace: "shop", Name: "web"}, UID: "u",
		Actor: events.Actor{Kind: "scheduler", Version: "v1"}, User: "admin", Audit: "a", Cause: 7, Basis: 6, Time: at, Now: at,
		Optional: true, More: true, Note: []byte(`{}`), Chain: [32]byte{1, 31: 2},
	}
	for _, asked := range []string{"", `{"item":"pods/shop/web"}`} {
		if asked != "" {
			want.Asked = []byte(asked)
		}
		got, err := decodeEvent(8, encodeEvent(&want))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: got\n%+v\nwant\n%+v", err, got, want)
		}
	}
}
