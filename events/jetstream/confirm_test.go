package jetstream

import (
	"errors"
	"log/slog"
	"os"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/reprise-run/reprise/events"
)

// forgetful has the file system of a server's data end its journal, from now on: it says
// of each sync that all is well, and of nothing else.
func forgetful(s *Server) {
	s.confirm = func(*os.File) error { return os.NewSyscallError("futimes", syscall.EROFS) }
}

// What JetStream keeps beside the log is not taken for durable on the word of a sync: an
// event that needs it would be.
func TestASyncThatIsNotConfirmed(t *testing.T) {
	key := func(t *testing.T) string {
		pair, err := nkeys.CreateUser()
		must(t, err)
		public, err := pair.PublicKey()
		must(t, err)
		return public
	}
	for name, do := range map[string]func(t *testing.T, s *Server, nc *nats.Conn) (begun func() error){
		"a key is kept": func(t *testing.T, s *Server, nc *nats.Conn) func() error {
			v, err := Vault(t.Context(), nc, Config{})
			must(t, err)
			return func() error { return v.Create(t.Context(), "a", []byte("value")) }
		},
		"a key is erased": func(t *testing.T, s *Server, nc *nats.Conn) func() error {
			v, err := Vault(t.Context(), nc, Config{})
			must(t, err)
			must(t, v.Create(t.Context(), "a", []byte("value")))
			return func() error { return v.Erase(t.Context(), "a") }
		},
		"an event ages away": func(t *testing.T, s *Server, nc *nats.Conn) func() error {
			l, err := Volatile(t.Context(), nc, Config{})
			must(t, err)
			return func() error {
				var chain [32]byte
				_, err := l.Append(t.Context(), 0, decision(&chain, 0, 1))
				if !errors.Is(err, events.ErrUncertain) {
					t.Errorf("it is appended with %v", err)
				}
				return err
			}
		},
		"nodes are admitted": func(t *testing.T, s *Server, nc *nats.Conn) func() error {
			c, err := OpenCredentials(t.Context(), s, nc, Config{}, func(events.Credential) (Permissions, error) { return Permissions{}, nil }, slog.New(slog.DiscardHandler))
			must(t, err)
			return func() error {
				return c.Admit(t.Context(), events.Credential{Name: "a", Nodes: []string{"n1"}, Key: key(t)})
			}
		},
		"a subscriber comes": func(t *testing.T, s *Server, nc *nats.Conn) func() error {
			all := subscribersOf(t, s, nc)
			return func() error { return all.Add(t.Context(), subscriberA(key(t))) }
		},
		"a subscriber goes": func(t *testing.T, s *Server, nc *nats.Conn) func() error {
			all := subscribersOf(t, s, nc)
			must(t, all.Add(t.Context(), subscriberA(key(t))))
			return func() error { return all.Remove(t.Context(), "a") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, nc := startHere(t)
			begun := do(t, s, nc)
			forgetful(s)
			if err := begun(); err == nil {
				t.Error("it is done")
			}
			select {
			case <-s.Failed():
			default:
				t.Error("the server goes on")
			}
		})
	}
}

// The value before is destroyed only when the one that replaces it is there for certain.
func TestAReplacementThatIsNotConfirmed(t *testing.T) {
	s, nc := startHere(t)
	v, err := Vault(t.Context(), nc, Config{})
	must(t, err)
	must(t, v.Create(t.Context(), "a", []byte("value before")))
	before, err := v.Get(t.Context(), "a")
	must(t, err)
	forgetful(s)
	if err := v.Replace(t.Context(), before, []byte("another")); err == nil {
		t.Error("it is replaced")
	}
	if !inFiles(t, s.dir, "value before") {
		t.Error("the value before is destroyed")
	}
}

func startHere(t *testing.T) (*Server, *nats.Conn) {
	t.Helper()
	return startIn(t, t.TempDir())
}

// startIn starts a server on a directory, and connects to it.
func startIn(t *testing.T, dir string) (*Server, *nats.Conn) {
	t.Helper()
	s, err := StartServer(ServerOptions{Dir: dir})
	must(t, err)
	t.Cleanup(s.Shutdown)
	nc, err := s.Connect()
	must(t, err)
	t.Cleanup(nc.Close)
	return s, nc
}

func subscribersOf(t *testing.T, s *Server, nc *nats.Conn) *Subscribers {
	t.Helper()
	_, err := History(t.Context(), nc, Config{})
	must(t, err)
	all, err := OpenSubscribers(t.Context(), s, nc, Config{}, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(all.Close)
	return all
}

func subscriberA(key string) events.Subscriber {
	return events.Subscriber{Name: "a", Key: key, Filters: []events.Filter{{Resource: "pods"}}}
}
