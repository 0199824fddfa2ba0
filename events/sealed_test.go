package events_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
)

// everything is an event with each field set.
func everything() events.Event {
	return events.Event{
		Sequence: 812, Type: "pod.bound", Object: events.Ref{Group: "g", Resource: "pods", Namespace: "shop", Name: "web-1"}, UID: "5c1f",
		Actor: events.Actor{Kind: "scheduler", Name: "default", Version: "v1"}, User: "admin", Audit: "a-1", Cause: 807,
		Time: time.UnixMilli(1_790_000_000_123).UTC(), Basis: 811, Now: time.UnixMilli(-5).UTC(), Optional: true, More: true,
		Note: []byte(`{"why":"é"}`), Data: bytes.Repeat([]byte("x"), 300),
		Asked: []byte(`{"item":"pods/shop/web-1"}`),
	}
}

func TestSealedRoundTrip(t *testing.T) {
	full := everything()
	for name, e := range map[string]events.Event{"nothing": {}, "everything": full, "1970": {Time: time.UnixMilli(0).UTC()}} {
		got, err := events.ParseSealed(e.AppendSealed(nil))
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%s comes back as %+v, %v", name, got, err)
		}
		if events.LinkSealed([32]byte{7}, e.AppendSealed(nil)) != events.Link([32]byte{7}, &e) {
			t.Errorf("%s: LinkSealed is not Link", name)
		}
	}
	alter(t, reflect.ValueOf(&full).Elem(), "Event", func(field string) {
		if field == "Event.Chain" {
			return
		}
		if got, err := events.ParseSealed(full.AppendSealed(nil)); err != nil || !reflect.DeepEqual(got, full) {
			t.Errorf("with another %s it comes back as %+v, %v", field, got, err)
		}
	})
}

func TestSealedRefuses(t *testing.T) {
	for name, b := range map[string][]byte{
		"tag zero":          {0, 1, 'x'},
		"an empty field":    {2, 0},
		"cut short":         {2, 3, 'a', 'b'},
		"no length":         {2},
		"a long length":     {2, 0x81, 0x00, 'a'},
		"fields exchanged":  {6, 1, 'n', 2, 1, 't'},
		"a field twice":     {2, 1, 't', 2, 1, 't'},
		"a short number":    {1, 1, 5},
		"a number of zero":  {1, 8, 0, 0, 0, 0, 0, 0, 0, 0},
		"a flag of two":     {17, 1, 2},
		"an endless length": {20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
	} {
		if e, err := events.ParseSealed(b); err == nil || errors.Is(err, events.ErrNewerLog) {
			t.Errorf("%s is read as %+v, %v", name, e, err)
		}
	}
	if _, err := events.ParseSealed([]byte{22, 1, 1}); !errors.Is(err, events.ErrNewerLog) {
		t.Errorf("a field of the future: %v", err)
	}
}

func FuzzParseSealed(f *testing.F) {
	e := everything()
	f.Add(e.AppendSealed(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := events.ParseSealed(b); err == nil && !bytes.Equal(e.AppendSealed(nil), b) {
			t.Errorf("%x is read as what is written %x", b, e.AppendSealed(nil))
		}
	})
}
