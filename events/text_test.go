package events_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
)

func bound() events.Event {
	return events.Event{
		Sequence: 812, Type: "pod.bound", UID: "7f1c",
		Object: events.Ref{Resource: "pods", Namespace: "default", Name: "web-1"},
		Actor:  events.Actor{Kind: "scheduler", Version: "v0.1.0"},
		Cause:  807, Basis: 811,
		Time: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC),
		Now:  time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Note: []byte(`{"score":7}`),
		Data: []byte(`[{"op":"add","path":"/spec/nodeName","value":"n1"}]`),
	}
}

func TestTextReadsLikeTheDesign(t *testing.T) {
	e := bound()
	const want = `pod.bound  pods/default/web-1  seq 812  by scheduler  because 807
  add /spec/nodeName "n1"
`
	if got := e.String(); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	e.Chain = events.Link([32]byte{}, &e)
	const full = `pod.bound  pods/default/web-1  seq 812  by scheduler  because 807
  uid 7f1c  at 2026-01-02T03:04:05.678Z  version v0.1.0  basis 811  now 2026-01-02T03:04:05.000Z
  chain 0907b06cc2e8794737ee94d829373a2eee128c0bc5719299542f58773c01c788
  note {"score":7}
  add /spec/nodeName "n1"
`
	if got := e.Text(); got != full {
		t.Errorf("got:\n%swant:\n%s", got, full)
	}
}

func FuzzTextRoundTrip(f *testing.F) {
	f.Add("pod.bound", "apps", "deployments", "default", "web", "uid", "node", "n1", "v1", "system:admin", "a-1", uint64(7), int64(1e12), true, false, []byte(`{"a":1}`), []byte(`[{"op":"add","path":"/a b","value":"x"}]`))
	f.Add("a.b c", "a.b", "a.b", "", "a/b c", "\"", "k:ind", "", "", " ", "\x00", uint64(0), int64(0), false, true, []byte(`"a"`), []byte(`{"a":{"b":null}}`))
	f.Add("*.deleted", "", "nodes", "", "n1", "", "", "x", "", "", "", uint64(1), int64(5), false, false, []byte("a\nb"), []byte(`[{"op":"remove","path":""}]`))
	f.Fuzz(func(t *testing.T, typ, group, resource, namespace, name, uid, kind, actor, version, user, audit string, n uint64, ms int64, optional, more bool, note, data []byte) {
		const year9999 = 253402300799000
		if typ == "" || len(note) == 0 || len(data) == 0 {
			return
		}
		e := events.Event{
			Sequence: n, Type: typ + ".x", UID: uid, User: user, Audit: audit, Cause: n / 2, Basis: n / 3,
			Object: events.Ref{Group: group, Resource: resource, Namespace: namespace, Name: name},
			Actor:  events.Actor{Kind: kind, Name: actor, Version: version},
			Time:   time.UnixMilli(ms & (1<<47 - 1) % year9999).UTC(), Optional: optional, More: more, Note: note, Data: data,
		}
		e.Chain = events.Link([32]byte{}, &e)
		read, err := events.ParseText(e.Text())
		if err != nil {
			t.Fatalf("%v in:\n%s", err, e.Text())
		}
		if len(note) > 1 {
			e.Asked, e.Note = note[:len(note)/2], note[len(note)/2:]
			e.Chain = events.Link([32]byte{}, &e)
			if read, err = events.ParseText(e.Text()); err != nil {
				t.Fatalf("%v in:\n%s", err, e.Text())
			}
		}
		if len(read) != 1 || !reflect.DeepEqual(read[0], e) {
			t.Fatalf("read back:\n%+v\nwas:\n%+v\ntext:\n%s", read, e, e.Text())
		}
	})
}
