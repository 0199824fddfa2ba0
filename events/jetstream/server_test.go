package jetstream_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
)

func TestServerSaysWhatIsWrong(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	inUse := t.TempDir()
	start(t, jetstream.ServerOptions{Dir: inUse})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		options jetstream.ServerOptions
		want    string
	}{
		{jetstream.ServerOptions{}, "needs a data directory"},
		{jetstream.ServerOptions{Dir: inUse}, "in use by another"},
		{jetstream.ServerOptions{Dir: filepath.Join(file, "x")}, "cannot make the log's data directory"},
		{jetstream.ServerOptions{Dir: t.TempDir(), Listen: taken.Addr().String()}, "another program does"},
		{jetstream.ServerOptions{Dir: t.TempDir(), Listen: "nowhere"}, "no host:port"},
		{jetstream.ServerOptions{Dir: "/dev/full/x"}, "cannot make"},
	} {
		s, err := jetstream.StartServer(c.options)
		if err == nil {
			s.Shutdown()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.options, err, c.want)
		}
	}
}

func TestUsersAreHeldToTheirSubjects(t *testing.T) {
	s := start(t, jetstream.ServerOptions{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	url := "nats://" + s.Addr()
	if nc, err := jetstream.Connect(url); err == nil {
		nc.Close()
		t.Fatal("a stranger can connect")
	}
	seed, err := s.AddUser("node.n1", jetstream.Permissions{Publish: []string{"mine.n1"}, Subscribe: []string{"for.n1", "_INBOX.n1.>"}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := jetstream.WithSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	denied := make(chan error, 8)
	nc, err := jetstream.Connect(url, key, nats.CustomInboxPrefix("_INBOX.n1"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	server := connect(t, s)
	if _, err := server.Subscribe("mine.n1", func(m *nats.Msg) { _ = m.Respond([]byte("heard")) }); err != nil {
		t.Fatal(err)
	}
	if err := server.Flush(); err != nil {
		t.Fatal(err)
	}
	if m, err := nc.Request("mine.n1", nil, 10*time.Second); err != nil || string(m.Data) != "heard" {
		t.Errorf("its own subject: %v", err)
	}
	for what, try := range map[string]func() error{
		"publishing as another": func() error { return nc.Publish("mine.n2", nil) },
		"publishing an event":   func() error { return nc.Publish("reprise.core.pods.a.bound", nil) },
		"listening to another":  func() error { _, err := nc.SubscribeSync("for.n2"); return err },
		"listening to all":      func() error { _, err := nc.SubscribeSync(">"); return err },
		"asking JetStream":      func() error { return nc.Publish("$JS.API.STREAM.DELETE.REPRISE", nil) },
	} {
		if err := try(); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-denied:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s is allowed", what)
		}
	}
}

func TestForeignOrDamagedStreams(t *testing.T) {
	s := start(t, jetstream.ServerOptions{Dir: t.TempDir()})
	nc := connect(t, s)
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), natsjs.StreamConfig{Name: "FOREIGN", Subjects: []string{"foreign.*.*.*.*"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := jetstream.History(t.Context(), nc, jetstream.Config{Prefix: "foreign"}); err == nil || !strings.Contains(err.Error(), "not made by this program") {
		t.Errorf("a foreign stream: %v", err)
	}
	if _, err := jetstream.History(t.Context(), nc, jetstream.Config{Prefix: "a.b"}); err == nil {
		t.Error("a prefix of two tokens is taken")
	}
	first, err := jetstream.Volatile(t.Context(), nc, jetstream.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Append(t.Context(), 0, some(1, 10)); err != nil {
		t.Fatal(err)
	}
	again, err := jetstream.Volatile(t.Context(), nc, jetstream.Config{VolatileAge: 2 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if last, err := again.Last(t.Context()); err != nil || last != 10 {
		t.Errorf("ends at %d (%v) after its age was changed", last, err)
	}
}

func TestNewerEventsAreNotRead(t *testing.T) {
	s := start(t, jetstream.ServerOptions{Dir: t.TempDir()})
	log := openLog(t, s, false)
	_, err := log.Append(t.Context(), 0, some(1, 2))
	if err == nil {
		_, err = log.Last(t.Context()) // nothing is in flight
	}
	if err != nil {
		t.Fatal(err)
	}
	e := some(3, 1)[0]
	h, body := jetstream.Encode(&e)
	h.Set("ce-schema", "2")
	nc := connect(t, s)
	if _, err := nc.RequestMsg(&nats.Msg{Subject: "reprise.core.pods.a.bound", Header: h, Data: body}, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Get(t.Context(), 3); !errors.Is(err, events.ErrNewerLog) {
		t.Errorf("Get: %v", err)
	}
	r, err := log.Follow(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	read := 0
	for {
		got, err := r.Next(t.Context())
		read += len(got)
		if err != nil {
			if !errors.Is(err, events.ErrNewerLog) || read != 2 {
				t.Errorf("after %d events: %v", read, err)
			}
			return
		}
	}
}

// some returns n events like those of a pod's life.
func some(first uint64, n int) []events.Event {
	data := fmt.Appendf(nil, `[{"op":"replace","path":"/status","value":{"phase":"Running","note":"%s"}}]`, strings.Repeat("x", 1000))
	all := make([]events.Event, n)
	for i := range all {
		all[i] = events.Event{
			Type: "container.started", Object: events.Ref{Resource: "pods", Namespace: "shop", Name: fmt.Sprintf("web-%d", first+uint64(i))},
			UID: "5a1c8a3e-4b0c-4f6e-9d29-3e1f5a2b7c11", Actor: events.Actor{Kind: "node", Name: "n1", Version: "v0.1.0"},
			Cause: first, Basis: first, Time: time.UnixMilli(1767323045000).UTC(), Now: time.UnixMilli(1767323045000).UTC(), Chain: [32]byte{1}, Data: data,
		}
	}
	return all
}
