package events_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
)

// TestLinkCoversEveryField changes each field of an event in turn, those that
// the envelope will gain included: none may change unnoticed.
func TestLinkCoversEveryField(t *testing.T) {
	e := bound()
	was := events.Link([32]byte{}, &e)
	if events.Link([32]byte{1}, &e) == was {
		t.Error("the chain does not cover the events before")
	}
	alter(t, reflect.ValueOf(&e).Elem(), "Event", func(field string) {
		if field != "Event.Chain" && events.Link([32]byte{}, &e) == was {
			t.Errorf("%s can change unnoticed", field)
		}
	})
}

func alter(t *testing.T, v reflect.Value, name string, check func(string)) {
	before := reflect.New(v.Type()).Elem()
	before.Set(v)
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = x.Add(time.Millisecond)
	case *string:
		*x += "x"
	case *uint64:
		*x++
	case *bool:
		*x = !*x
	case *[]byte:
		*x = append(append([]byte(nil), *x...), 'x')
	case *[32]byte:
		x[0]++
	default:
		if v.Kind() != reflect.Struct {
			t.Fatalf("%s is a %s, which the chain's encoding does not know", name, v.Type())
		}
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				continue // stays in the process, and is no part of the event
			}
			alter(t, v.Field(i), name+"."+v.Type().Field(i).Name, check)
		}
		return
	}
	check(name)
	v.Set(before)
}

// TestLinkKeepsFieldsApart moves bytes from one field to the next.
func TestLinkKeepsFieldsApart(t *testing.T) {
	a := events.Event{Object: events.Ref{Namespace: "ab", Name: "c"}}
	b := events.Event{Object: events.Ref{Namespace: "a", Name: "bc"}}
	c := events.Event{Object: events.Ref{Resource: "ab", Name: "c"}}
	if events.Link([32]byte{}, &a) == events.Link([32]byte{}, &b) || events.Link([32]byte{}, &a) == events.Link([32]byte{}, &c) {
		t.Error("two events have one encoding")
	}
}

func TestVerifyChain(t *testing.T) {
	history := func() []events.Event {
		var all []events.Event
		var chain [32]byte
		for s := uint64(1); s <= 6; s++ {
			e := bound()
			e.Sequence = s
			e.Chain = events.Link(chain, &e)
			chain = e.Chain
			all = append(all, e)
		}
		return all
	}
	all := history()
	end, err := events.VerifyChain(0, [32]byte{}, all)
	if err != nil || end != all[5].Chain {
		t.Fatalf("an intact log: %v", err)
	}
	if end, err = events.VerifyChain(3, all[2].Chain, all[3:]); err != nil || end != all[5].Chain {
		t.Errorf("the end of an intact log: %v", err)
	}
	for name, c := range map[string]struct {
		tamper func(all []events.Event) []events.Event
		at     uint64
	}{
		"one bit": {func(all []events.Event) []events.Event { all[3].Data[5] ^= 1; return all }, 4},
		"relinked": {func(all []events.Event) []events.Event {
			all[3].User = "eve"
			all[3].Chain = events.Link(all[2].Chain, &all[3])
			return all
		}, 5},
		"one left out":  {func(all []events.Event) []events.Event { return append(all[:2], all[3:]...) }, 3},
		"two exchanged": {func(all []events.Event) []events.Event { all[2], all[3] = all[3], all[2]; return all }, 3},
	} {
		var damage *events.ChainError
		if _, err := events.VerifyChain(0, [32]byte{}, c.tamper(history())); !errors.As(err, &damage) || damage.Sequence != c.at {
			t.Errorf("%s: %v, want damage at sequence %d", name, err, c.at)
		}
	}
}

func BenchmarkLink(b *testing.B) {
	e := bound()
	e.Data = pod(b, true)
	b.SetBytes(int64(len(e.Data)))
	for b.Loop() {
		e.Chain = events.Link(e.Chain, &e)
	}
}
