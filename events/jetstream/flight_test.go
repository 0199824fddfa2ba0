package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream/intent"
)

// What was acknowledged is waited for by who reads it, also after it has failed in flight.
func TestWhatIsTornIsNotSaidToBeMissing(t *testing.T) {
	l := openNew(t)
	l.patient = 100 * time.Millisecond
	release := delay(t, l)
	var chain [32]byte
	all := appendTo(t, l, nil, decision(&chain, 0, 3))
	for torn := false; !torn; {
		l.own.mu.Lock()
		torn = l.own.troubled()
		l.own.mu.Unlock()
	}
	hasty, cancel := context.WithTimeout(t.Context(), 2*l.patient)
	defer cancel()
	if _, err := l.Get(hasty, 3); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("what was acknowledged is read with %v", err)
	}
	if _, err := l.Get(t.Context(), 4); !errors.Is(err, events.ErrNotFound) {
		t.Errorf("what was not appended is read with %v", err)
	}
	release(func(*nats.Msg) bool { return false })
	r, err := l.Follow(t.Context(), 4)
	if err != nil {
		t.Fatalf("behind what was acknowledged nobody can follow: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	expectLog(t, l, all)
}

// An answer that is lost is none that must be waited for, once a later one has come.
func TestALaterAnswerTellsOfEarlierAppends(t *testing.T) {
	l := openNew(t)
	l.patient = time.Hour
	release := delay(t, l)
	var chain [32]byte
	all := appendTo(t, l, nil, decision(&chain, 0, 1))
	all = appendTo(t, l, all, decision(&chain, 1, 1))
	release(func(m *nats.Msg) bool {
		m.Reply = ""
		return true
	})
	waiting, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if last, err := l.Last(waiting); err != nil || last != 2 {
		t.Errorf("the log is said to end at %d, %v", last, err)
	}
	expectLog(t, l, all)
}

// What flies behind an append that failed does not come into the stream either.
func TestWhatFliesBehindAFailureHasFailed(t *testing.T) {
	var a air
	for n := range uint64(4) {
		a.enter(&flight{redo: &redo{n, make([]events.Event, 1)}, told: make(chan error, 1)})
	}
	a.went(1, nil)
	a.went(3, events.ErrUncertain)
	a.went(4, nil) // nobody answers so
	for i, want := range []error{nil, nil, events.ErrUncertain, events.ErrUncertain} {
		select {
		case got := <-a.flights[i].told:
			if got != want {
				t.Errorf("of append %d is told %v", i+1, got)
			}
		default:
			t.Errorf("of append %d is told nothing", i+1)
		}
	}
	for msgs := 3; msgs >= 0; msgs-- {
		a.leave()
		if _, got, _ := a.front(); got != msgs {
			t.Errorf("%d messages are in flight, want %d", got, msgs)
		}
	}
}

// Who appends may close the connection once it is done.
func TestWhatFailsInFlightIsFinishedWithoutWhoAppendedIt(t *testing.T) {
	l := openNew(t)
	nc, err := l.embedded().Connect()
	if err != nil {
		t.Fatal(err)
	}
	other, err := History(t.Context(), nc, Config{})
	if err != nil {
		t.Fatal(err)
	}
	other.patient = 100 * time.Millisecond
	release := delay(t, other)
	var chain [32]byte
	all := appendTo(t, other, nil, decision(&chain, 0, 3))
	nc.Close()
	release(func(*nats.Msg) bool { return false })
	for since := time.Now(); ; {
		state, err := l.state(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if state.LastSeq == 3 {
			break
		}
		if time.Since(since) > 10*time.Second {
			t.Fatalf("the stream still ends at %d", state.LastSeq)
		}
	}
	expectLog(t, l, all)
}

// The client opens the connection again, and nothing is sent before that.
func TestAppendsSurviveTheirConnection(t *testing.T) {
	l := openNew(t)
	var chain [32]byte
	all := appendTo(t, l, nil, decision(&chain, 0, 3))
	for range 3 {
		if err := (*l.own.tap.conn.Load()).Close(); err != nil {
			t.Fatal(err)
		}
		all = appendTo(t, l, all, decision(&chain, uint64(len(all)), 2))
		all = appendTo(t, l, all, decision(&chain, uint64(len(all)), 1))
		expectLog(t, l, all)
	}
}

// wholes is a connection that counts messages, and fails a test of a write that does not
// have whole ones.
type wholes struct {
	net.Conn
	t        *testing.T
	messages atomic.Int64
}

func (w *wholes) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; w.messages.Add(1) {
		line, after, found := bytes.Cut(rest, []byte("\r\n"))
		size, err := strconv.Atoi(string(line[bytes.LastIndexByte(line, ' ')+1:]))
		if !found || err != nil || !bytes.HasPrefix(line, []byte("HPUB ")) || len(after) < size+2 || string(after[size:size+2]) != "\r\n" {
			w.t.Errorf("written at once are %d bytes that end in a part of a message: %.100q", len(b), rest)
			break
		}
		rest = after[size+2:]
	}
	return w.Conn.Write(b)
}

// What the client writes beside flights goes between writes of theirs, and so must not come
// within a message.
func TestFlightsAreWrittenInWholeMessages(t *testing.T) {
	l := openNew(t)
	w := &wholes{Conn: *l.own.tap.conn.Load(), t: t}
	conn := net.Conn(w)
	l.own.tap.conn.Store(&conn)
	var chain [32]byte
	var all []events.Event
	for _, n := range []int{1, 3, 300} { // of more than is sent at once
		all = appendTo(t, l, all, decision(&chain, uint64(len(all)), n))
	}
	expectLog(t, l, all)
	if n := w.messages.Load(); n != int64(len(all)) {
		t.Errorf("%d messages flew, of %d", n, len(all))
	}
}

// A message that is said to fit does.
func TestSmallMessagesFit(t *testing.T) {
	wide := func(n int) string { return strings.Repeat("%", n) }
	e := events.Event{Type: wide(1), Object: events.Ref{Name: wide(mostSubject/4 - 5)}, Asked: []byte(wide(8000)), Note: []byte(wide(longNote)), Chain: [32]byte{1}}
	if !small(&e, len("root"), 1<<20) {
		t.Fatal("it is not said to fit")
	}
	w := newFrames(nil)
	w.add("root", "", &e)
	if len(w.head) > math.MaxUint16 {
		t.Errorf("its headers have %d bytes", len(w.head))
	}
	for name, e := range map[string]events.Event{
		"a name":    {Object: events.Ref{Name: wide(mostSubject)}},
		"a note":    {Note: make([]byte, math.MaxUint16/4), Asked: []byte("{}")},
		"an object": {Data: make([]byte, 1<<20)},
	} {
		if small(&e, len("root"), 1<<20) {
			t.Errorf("%s is said to fit whatever its size", name)
		}
	}
}

// So much at once JetStream might drop, and it is through with blocks before they are open.
func TestWhatIsTooLargeToFlyIsWaitedFor(t *testing.T) {
	l := openNew(t)
	l.patient = 300 * time.Millisecond
	release := delay(t, l)
	var chain [32]byte
	all := decision(&chain, 0, 3)
	for i := range all {
		all[i].Data = fmt.Appendf(nil, "[%q]", incompressible(uint64(i)))
	}
	if _, err := l.Append(t.Context(), 0, all); !errors.Is(err, events.ErrUncertain) {
		t.Errorf("it is appended with %v", err)
	}
	release(nil)
	expectLog(t, l, all)
}

// incompressible is 6 MB.
func incompressible(seed uint64) []byte {
	b := make([]byte, 6<<20)
	for i := range b {
		seed = seed*6364136223846793005 + 1442695040888963407
		b[i] = 'A' + byte(seed>>58)%26
	}
	return b
}

func TestALogThatIsNotOpenedLeavesNoConnection(t *testing.T) {
	dir := t.TempDir()
	s, err := StartServer(ServerOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := os.Mkdir(intent.Paths(dir, "REPRISE")[0], 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := History(t.Context(), nc, Config{}); err == nil {
		t.Fatal("it is opened")
	}
	for since := time.Now(); s.ns.NumClients() > 1; {
		if time.Since(since) > 20*time.Second {
			t.Fatalf("there are still %d connections", s.ns.NumClients())
		}
	}
}

// The connection of all flights may break, with some of them half sent or not answered.
func TestAppendsGoOnWhenTheirConnectionBreaks(t *testing.T) {
	l := openNew(t)
	l.patient = 300 * time.Millisecond
	var chain [32]byte
	var all []events.Event
	for i := range 200 {
		batch := decision(&chain, uint64(len(all)), 1+i%5)
		all = appendTo(t, l, all, batch)
		if i%40 == 20 {
			disconnect(t, l)
			for range 5 {
				all = appendTo(t, l, all, decision(&chain, uint64(len(all)), 3))
			}
			for l.own.nc.Status() != nats.CONNECTED {
				if _, err := l.Get(t.Context(), uint64(len(all))); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	expectLog(t, l, all)
	l.own.server.Shutdown()
	expectLog(t, mustOpen(t, ServerOptions{Dir: l.own.server.dir}), all)
}

// disconnect breaks the connection of all flights. It may not have come back from the last time
// yet, and the server does not know it then.
func disconnect(t *testing.T, l *Log) {
	t.Helper()
	for since := time.Now(); ; {
		id, err := l.own.nc.GetClientID()
		if err == nil {
			err = l.own.server.ns.DisconnectClientByID(id)
		}
		if err == nil {
			return
		}
		if time.Since(since) > 20*time.Second {
			t.Fatal(err)
		}
	}
}

// What is in flight takes room that the disk still says it has.
func TestWhatIsInFlightHasRoomOnTheDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=96m"); err != nil {
		t.Skipf("cannot mount a small file system to fill (%v): run as root, with the right to mount", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	s, err := StartServer(ServerOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	l, err := History(t.Context(), nc, Config{})
	if err != nil {
		t.Fatal(err)
	}
	var chain [32]byte
	last := uint64(0)
	large := func() error {
		batch := decision(&chain, last, 1)
		batch[0].Data = fmt.Appendf(nil, "[%q]", incompressible(last)[:1<<20])
		_, err := l.Append(t.Context(), last, batch)
		if err == nil {
			last++
		}
		return err
	}
	free := func() int {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(dir, &fs); err != nil {
			t.Fatal(err)
		}
		return int(fs.Bavail) * int(fs.Bsize)
	}
	for free() > 21<<20 {
		if err = large(); err == nil {
			err = l.own.harden(t.Context(), last)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Last(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.patient = 2 * time.Second
	release := delay(t, l)
	for err = nil; err == nil; {
		err = large()
	}
	if errors.Is(err, events.ErrUncertain) || !strings.Contains(err.Error(), "full") {
		t.Errorf("a full disk is reported as: %v", err)
	}
	release(nil)
	waiting, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := l.Last(waiting); err != nil {
		t.Error(err)
	}
}
