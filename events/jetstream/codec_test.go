package jetstream

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
)

func FuzzCodec(f *testing.F) {
	f.Add("pod.bound", "apps", "pods", "shop", "web-1", "controller", "deployment", "system:admin", uint64(7), int64(1767323045678), true, []byte(`{"a":"ü"}`), []byte(`[]`))
	f.Add("x.y", "", "nodes", "", "a b*>.c/%", "api", "", "CN=\"ü\"\r\n", uint64(0), int64(0), false, []byte(nil), []byte(`{}`))
	f.Add("x.y", "a/b", "a.b", "%2F", "", "k/d", "n.m", "", uint64(1), int64(-1), true, bytes.Repeat([]byte("long"), longNote), []byte("{}"))
	f.Fuzz(func(t *testing.T, typ, group, resource, namespace, name, kind, actor, user string, n uint64, ms int64, flag bool, note, data []byte) {
		const year9999 = 253402300799999
		if typ == "" || ms < 0 || ms > year9999 {
			t.Skip("not an event: types are not empty, and times have years of four digits")
		}
		want := events.Event{
			Sequence: 5, Type: typ, UID: user, User: user, Audit: name, Cause: n, Basis: n, Optional: flag, More: !flag,
			Object: events.Ref{Group: group, Resource: resource, Namespace: namespace, Name: name},
			Actor:  events.Actor{Kind: kind, Name: actor, Version: user},
			Time:   time.UnixMilli(ms).UTC(), Now: time.UnixMilli(ms).UTC(), Chain: [32]byte{byte(n), 31: 1},
		}
		if len(note) > 0 {
			want.Note, want.Asked = bytes.Clone(note), bytes.Clone(note)
		}
		if len(data) > 0 {
			want.Data = bytes.Clone(data)
		}
		h, body := Encode(&want)
		for key, values := range h {
			for _, v := range values {
				if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r > '~' }) {
					t.Errorf("header %s: %q does not survive NATS", key, v)
				}
			}
		}
		framed(t, &want, h, body)
		got, err := Decode(h, body, 5)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got\n%#v\nwant\n%#v", got, want)
		}
		s := subject("reprise", &want)
		if tokens := strings.Split(s, "."); len(tokens) != 5 || strings.ContainsAny(s, "*> \r\n\t") {
			t.Errorf("subject %q", s)
		}
	})
}

// framed checks that the message of an event, as it is sent, says what Encode does.
func framed(t *testing.T, e *events.Event, h nats.Header, body []byte) {
	t.Helper()
	w := newFrames(nil)
	w.add("root", "inbox.5", e)
	first, rest, _ := strings.Cut(string(w.out), "\r\n")
	var to, reply string
	var head, all int
	if _, err := fmt.Sscanf(first, "HPUB %s %s %d %d", &to, &reply, &head, &all); err != nil || to != subject("root", e) || reply != "inbox.5" {
		t.Fatalf("the message begins with %q: %v", first, err)
	}
	if all != head+len(body) || rest[head:] != string(body)+"\r\n" {
		t.Errorf("of %q, %d bytes are said to be headers, and %d all", rest, head, all)
	}
	want := nats.Header{hExpect: {strconv.FormatUint(e.Sequence-1, 10)}}
	maps.Copy(want, h)
	got := nats.Header{}
	lines := strings.Split(strings.TrimSuffix(strings.TrimPrefix(rest[:head], "NATS/1.0\r\n"), "\r\n\r\n"), "\r\n")
	for _, line := range lines {
		key, value, _ := strings.Cut(line, ": ")
		got[key] = append(got[key], value)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("sent are\n%v\nwant\n%v", got, want)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("1", "pod.bound", "/api/", "pods/a/b", "2026-01-02T03:04:05Z", "12", "7", []byte("{}"))
	f.Add("9", "", "api", "pods", "x", "-1", "99", []byte(""))
	f.Fuzz(func(t *testing.T, version, typ, source, subject, when, chain, noteAt string, body []byte) {
		h := nats.Header{}
		for k, v := range map[string]string{hSchema: version, hType: typ, hSource: source, hSubject: subject, hTime: when, hChain: chain, hNoteAt: noteAt} {
			h.Set(k, v)
		}
		e, err := Decode(h, body, 3)
		if v, _ := strconv.ParseUint(version, 10, 64); v > schema && !errors.Is(err, events.ErrNewerLog) {
			t.Errorf("version %s: %v", version, err)
		}
		if err == nil && e.Sequence != 3 {
			t.Errorf("sequence %d", e.Sequence)
		}
	})
}

func TestSubject(t *testing.T) {
	for _, c := range []struct {
		event events.Event
		want  string
	}{
		{events.Event{Type: "container.exited", Object: events.Ref{Resource: "pods", Namespace: "shop", Name: "web-1"}}, "reprise.core.pods.shop.exited"},
		{events.Event{Type: "clusterrole.created", Object: events.Ref{Group: "rbac.authorization.k8s.io", Resource: "clusterroles", Name: "x"}}, "reprise.rbac_authorization_k8s_io.clusterroles.-.created"},
	} {
		if got := subject("reprise", &c.event); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestActorTokens(t *testing.T) {
	for _, name := range []string{"", "n1", "node-1.example.com"} {
		token, err := actorToken(name)
		if err != nil || strings.Contains(token, ".") || actorName(token) != name {
			t.Errorf("%q becomes %q (%v) and that %q", name, token, err, actorName(token))
		}
	}
	for _, name := range []string{"-", "a_b", "a b", "*", "a.>", "ü"} {
		if token, err := actorToken(name); err == nil {
			t.Errorf("%q is taken, as %q", name, token)
		}
	}
}
