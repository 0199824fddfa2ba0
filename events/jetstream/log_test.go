package jetstream_test

import (
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/logtest"
)

// start runs a server that the test stops; stop may be called before.
func start(t testing.TB, o jetstream.ServerOptions) *jetstream.Server {
	t.Helper()
	s, err := jetstream.StartServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

func openLog(t testing.TB, s *jetstream.Server, volatile bool) events.Log {
	t.Helper()
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	open := jetstream.History
	if volatile {
		open = jetstream.Volatile
	}
	log, err := open(t.Context(), nc, jetstream.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func TestContract(t *testing.T) {
	servers := map[events.Log]*jetstream.Server{}
	dirs := map[events.Log]string{}
	open := func(t *testing.T) events.Log {
		dir := t.TempDir()
		s := start(t, jetstream.ServerOptions{Dir: dir})
		log := openLog(t, s, false)
		servers[log], dirs[log] = s, dir
		return log
	}
	logtest.Run(t, open, func(t *testing.T, log events.Log) events.Log {
		servers[log].Shutdown()
		return openLog(t, start(t, jetstream.ServerOptions{Dir: dirs[log]}), false)
	})
}

func TestVolatileContract(t *testing.T) {
	logtest.Run(t, func(t *testing.T) events.Log {
		return openLog(t, start(t, jetstream.ServerOptions{Dir: t.TempDir()}), true)
	}, nil)
}
