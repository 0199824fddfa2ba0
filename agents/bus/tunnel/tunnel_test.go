package tunnel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"golang.org/x/net/nettest"

	"github.com/reprise-run/reprise/agents/bus"
	"github.com/reprise-run/reprise/events/jetstream"
)

// ends is a server's and a node's connection, and the node's place. The node
// connects over TCP and may do no more than a node may.
func ends(t testing.TB) (server, node *nats.Conn, at bus.Node) {
	t.Helper()
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	if server, err = s.Connect(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	if at, err = bus.NewNode("reprise", "n1.example.com"); err != nil {
		t.Fatal(err)
	}
	publish, subscribe := at.Permissions()
	seed, err := s.AddUser("node.n1", jetstream.Permissions{Publish: publish, Subscribe: subscribe})
	if err != nil {
		t.Fatal(err)
	}
	key, err := jetstream.WithSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	node, err = jetstream.Connect("nats://"+s.Addr(), key, at.Inbox(), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		t.Errorf("the node's connection: %v", err)
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Close)
	return server, node, at
}

// pipe opens one tunnel.
func pipe(t testing.TB, l net.Listener, server *nats.Conn, at bus.Node) (dialed, accepted net.Conn) {
	t.Helper()
	dialed, err := Dial(t.Context(), server, at)
	if err != nil {
		t.Fatal(err)
	}
	accepted, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialed.Close(); accepted.Close() })
	return dialed, accepted
}

func listen(t testing.TB, node *nats.Conn, at bus.Node) net.Listener {
	t.Helper()
	l, err := Listen(node, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestConn(t *testing.T) {
	server, node, at := ends(t)
	l := listen(t, node, at)
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		c1, err = Dial(context.Background(), server, at)
		if err != nil {
			return nil, nil, nil, err
		}
		c2, err = l.Accept()
		return c1, c2, func() { c1.Close(); c2.Close() }, err
	})
}

func TestHalfClose(t *testing.T) {
	server, node, at := ends(t)
	a, b := pipe(t, listen(t, node, at), server, at)
	go func() {
		_, _ = a.Write([]byte("question"))
		_ = a.(interface{ CloseWrite() error }).CloseWrite()
	}()
	if got, err := io.ReadAll(b); err != nil || string(got) != "question" {
		t.Fatalf("%q, %v", got, err)
	}
	go func() {
		_, _ = b.Write([]byte("answer"))
		b.Close()
	}()
	if got, err := io.ReadAll(a); err != nil || string(got) != "answer" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := a.Write([]byte("x")); err == nil {
		t.Fatal("writing after CloseWrite does not fail")
	}
}

func TestSlowReaderHoldsTheWriterUp(t *testing.T) {
	server, node, at := ends(t)
	a, b := pipe(t, listen(t, node, at), server, at)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 5*window/16)
	done := make(chan error, 1)
	go func() {
		_, err := a.Write(sent)
		a.Close()
		done <- err
	}()
	got, err := io.ReadAll(b)
	if err != nil || sha256.Sum256(got) != sha256.Sum256(sent) {
		t.Fatalf("%d of %d bytes arrived: %v", len(got), len(sent), err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestNobodyThere(t *testing.T) {
	server, node, at := ends(t)
	if _, err := Dial(t.Context(), server, at); err == nil || !strings.Contains(err.Error(), "not connected") {
		t.Fatalf("dialing an absent node: %v", err)
	}
	l := listen(t, node, at)
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("accepting on a closed listener: %v", err)
	}
}

func TestLostMessageEndsTheTunnel(t *testing.T) {
	server, node, at := ends(t)
	a, b := pipe(t, listen(t, node, at), server, at)
	if _, err := a.Write([]byte("one")); err != nil {
		t.Fatal(err)
	}
	a.(*conn).sent++ // as if a message had been dropped on the way
	if _, err := a.Write([]byte("three")); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(b)
	if string(got) != "one" || err == nil || !strings.Contains(err.Error(), "lost") {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestHTTP(t *testing.T) {
	server, node, at := ends(t)
	l := listen(t, node, at)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return Dial(ctx, server, at)
	}}}
	t.Cleanup(client.CloseIdleConnections)
	for range 3 {
		r, err := client.Post("http://node/echo", "text/plain", strings.NewReader("over the bus"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || string(got) != "over the bus" {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

func BenchmarkTransfer100MB(b *testing.B) {
	const size = 100 << 20
	server, node, at := ends(b)
	from, to := pipe(b, listen(b, node, at), server, at)
	b.SetBytes(size)
	block := make([]byte, 256<<10)
	for b.Loop() {
		go func() {
			for n := 0; n < size; n += len(block) {
				if _, err := from.Write(block); err != nil {
					b.Error(err)
					return
				}
			}
		}()
		if _, err := io.CopyN(io.Discard, to, size); err != nil {
			b.Fatal(err)
		}
	}
}
