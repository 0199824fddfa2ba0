package jetstream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream/intent"
)

// decision is a few events that belong together, linked to what is before them.
func decision(chain *[32]byte, after uint64, n int) []events.Event {
	batch := make([]events.Event, n)
	for i := range batch {
		e := &batch[i]
		*e = events.Event{
			Sequence: after + 1 + uint64(i), Type: "pod.updated", Actor: events.Actor{Kind: "api"}, More: i < n-1,
			Object: events.Ref{Resource: "pods", Namespace: "a", Name: fmt.Sprint("p", i)},
			Time:   time.UnixMilli(1767323045000).UTC(), Data: fmt.Appendf(nil, `[{"op":"add","path":"/x","value":%d}]`, i),
		}
		*chain = events.Link(*chain, e)
		e.Chain = *chain
	}
	return batch
}

// openOn starts a server on a directory and opens its log.
func openOn(t *testing.T, o ServerOptions) (*Log, error) {
	t.Helper()
	s, err := StartServer(o)
	if err != nil {
		return nil, err
	}
	t.Cleanup(s.Shutdown)
	nc, err := s.Connect()
	if err != nil {
		return nil, err
	}
	t.Cleanup(nc.Close)
	return History(t.Context(), nc, Config{})
}

func mustOpen(t *testing.T, o ServerOptions) *Log {
	t.Helper()
	l, err := openOn(t, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func openNew(t *testing.T) *Log { return mustOpen(t, ServerOptions{Dir: t.TempDir()}) }

// crashed is a copy of what a log has on its disk, as a process leaves it that is killed
// now.
func crashed(t *testing.T, l *Log) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "crashed")
	// JetStream may be replacing a file by its next form.
	err := errors.New("not tried")
	for try := 0; err != nil && try < 10; try++ {
		if err = os.RemoveAll(dir); err == nil {
			err = os.CopyFS(dir, os.DirFS(l.own.server.dir))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// cut has an append in the journal and stores it only in part, as a process does that is
// killed in the midst of it.
func cut(t *testing.T, l *Log, r *redo, stored int) {
	t.Helper()
	if _, err := l.Last(t.Context()); err != nil { // nothing is in flight
		t.Fatal(err)
	}
	if err := l.own.write(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if stored > 0 {
		if err := l.publish(t.Context(), l.own, r.after, l.singles(r, r.after)[:stored]); err != nil {
			t.Fatal(err)
		}
	}
}

// expectLog checks that the log holds the events, from the first one on.
func expectLog(t *testing.T, l *Log, want []events.Event) {
	t.Helper()
	last, err := l.Last(t.Context())
	if err != nil || last != uint64(len(want)) {
		t.Fatalf("the log ends at %d, %v; want %d", last, err, len(want))
	}
	for _, w := range want {
		got, err := l.Get(t.Context(), w.Sequence)
		if err != nil || got.Chain != w.Chain || got.Text() != w.Text() {
			t.Fatalf("at %d is %s, %v; want %s", w.Sequence, got.Text(), err, w.Text())
		}
	}
}

func appendTo(t *testing.T, l *Log, all, next []events.Event) []events.Event {
	t.Helper()
	if _, err := l.Append(t.Context(), uint64(len(all)), next); err != nil {
		t.Fatal(err)
	}
	return append(all, next...)
}

func TestWhatWasCutShortIsFinishedAtTheNextStart(t *testing.T) {
	for stored := range 5 {
		t.Run(fmt.Sprint(stored), func(t *testing.T) {
			l := openNew(t)
			var chain [32]byte
			all := appendTo(t, l, nil, decision(&chain, 0, 3))
			r := &redo{after: 3, batch: decision(&chain, 3, 4)}
			cut(t, l, r, stored)
			all = append(all, r.batch...)
			dir := crashed(t, l)
			l = mustOpen(t, ServerOptions{Dir: dir})
			expectLog(t, l, all)
			all = appendTo(t, l, all, decision(&chain, 7, 2))
			expectLog(t, mustOpen(t, ServerOptions{Dir: crashed(t, l)}), all)
			l.own.server.Shutdown()
			expectLog(t, mustOpen(t, ServerOptions{Dir: dir}), all)
		})
	}
}

func TestWhatIsCutShortIsFinishedBeforeAnythingElse(t *testing.T) {
	l := openNew(t)
	var chain [32]byte
	r := &redo{after: 0, batch: decision(&chain, 0, 5)}
	cut(t, l, r, 2)
	l.own.torn = r
	expectLog(t, l, appendTo(t, l, r.batch, decision(&chain, 5, 1)))
}

func TestWhatIsInTheJournalInPartIsNotAppended(t *testing.T) {
	l := openNew(t)
	var chain [32]byte
	all := appendTo(t, l, nil, decision(&chain, 0, 4))
	cut(t, l, &redo{after: 4, batch: decision(&chain, 4, 3)}, 0)
	dir := crashed(t, l)
	spoil(t, dir, 2, []byte("x"))
	expectLog(t, mustOpen(t, ServerOptions{Dir: dir}), all)
}

// spoil overwrites what the files of a journal have at the end of their last record, so
// many bytes before it.
func spoil(t *testing.T, dir string, before int, with []byte) {
	t.Helper()
	for _, path := range intent.Paths(dir, "REPRISE") {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if end := len(strings.TrimRight(string(content), "\x00")); end > 100 {
			copy(content[end-before:], with)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestALogThatEndsInADecisionWithoutItsJournalIsNotOpened(t *testing.T) {
	l := openNew(t)
	var chain [32]byte
	cut(t, l, &redo{after: 0, batch: decision(&chain, 0, 4)}, 2)
	l.own.server.Shutdown()
	for _, path := range intent.Paths(l.own.server.dir, "REPRISE") {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := openOn(t, ServerOptions{Dir: l.own.server.dir}); !errors.Is(err, events.ErrDamaged) {
		t.Errorf("it is opened with %v", err)
	} else {
		t.Log(err)
	}
}

// Few events were single messages once, which a crash may have cut short in a stream that
// is not its own.
func TestAnOldLogThatEndsInADecisionIsNotOpened(t *testing.T) {
	l := openNew(t)
	volatile, err := Volatile(t.Context(), l.nc, Config{})
	if err != nil {
		t.Fatal(err)
	}
	var chain [32]byte
	part := decision(&chain, 0, 3)[:2]
	if _, err := volatile.Append(t.Context(), 0, part); err != nil {
		t.Fatal(err)
	}
	if _, err := Volatile(t.Context(), l.nc, Config{}); !errors.Is(err, events.ErrDamaged) {
		t.Errorf("it is opened with %v", err)
	}
}

func TestNothingIsBegunAfterTheShutdown(t *testing.T) {
	l := openNew(t)
	l.own.server.Shutdown()
	for range 20 {
		l.own.mu.Lock()
		if err := l.own.turn(t.Context()); err == nil {
			t.Error("the journal turns")
		}
		l.own.mu.Unlock()
	}
}

// delay has what is appended wait in a queue before it comes to the stream, as it
// does in JetStream when a disk is slow, until the function that it returns is
// called: with the first message as first makes it, or without it.
func delay(t *testing.T, l *Log) (release func(first func(*nats.Msg) bool)) {
	t.Helper()
	nc, err := l.embedded().Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	root, queue := l.root, make(chan *nats.Msg, 100)
	l.root = "queue"
	if _, err = nc.ChanSubscribe("queue.>", queue); err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return func(first func(*nats.Msg) bool) {
		go func() {
			for m := range queue {
				pass := first == nil || first(m)
				if first = nil; !pass {
					continue
				}
				_ = nc.PublishMsg(&nats.Msg{Subject: root + strings.TrimPrefix(m.Subject, "queue"), Reply: m.Reply, Header: m.Header, Data: m.Data})
			}
		}()
	}
}

func TestWhatIsStoredAfterEverybodyWaitedIsFinished(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprint("lost ", lost), func(t *testing.T) {
			l := openNew(t)
			l.patient = 300 * time.Millisecond
			release := delay(t, l)
			var chain [32]byte
			// The journal has it, and that is enough.
			all := appendTo(t, l, nil, decision(&chain, 0, 4))
			all = appendTo(t, l, all, decision(&chain, 4, 2))
			expectLog(t, mustOpen(t, ServerOptions{Dir: crashed(t, l)}), all)
			hasty, cancel := context.WithTimeout(t.Context(), 2*l.patient)
			defer cancel()
			if last, err := l.Last(hasty); err == nil {
				t.Errorf("the log ends at %d when nothing is in the stream", last)
			}
			next := decision(&chain, 6, 2)
			if _, err := l.Append(hasty, 6, next); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("behind what was not answered in time is appended with %v", err)
			}
			release(func(*nats.Msg) bool { return !lost })
			expectLog(t, l, all)
			expectLog(t, l, appendTo(t, l, all, next))
		})
	}
}

// Those who wrote it were told that it is safe, and need not come again.
func TestWhatCouldNotBeStoredComesThereWithoutAnotherAppend(t *testing.T) {
	l := openNew(t)
	l.patient = 100 * time.Millisecond
	release := delay(t, l)
	var chain [32]byte
	all := appendTo(t, l, nil, decision(&chain, 0, 3))
	all = appendTo(t, l, all, decision(&chain, 3, 2))
	release(func(*nats.Msg) bool { return false })
	for {
		state, err := l.state(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if state.LastSeq == 5 {
			break
		}
	}
	expectLog(t, l, all)
}

// What goes through two connections could arrive in another order.
func TestTwoWhoAppendByTurnsKeepTheOrder(t *testing.T) {
	one := openNew(t)
	nc, err := one.embedded().Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	other, err := History(t.Context(), nc, Config{})
	if err != nil {
		t.Fatal(err)
	}
	var chain [32]byte
	var all []events.Event
	for i := range 60 {
		l := one
		if i%2 == 1 {
			l = other
		}
		all = appendTo(t, l, all, decision(&chain, uint64(len(all)), 1+i%5))
	}
	if one.own.torn != nil {
		t.Error("something had to be sent again")
	}
	expectLog(t, other, all)
}

// An append whose answer does not come counts only if the disk is sound.
func TestWhatIsNotAnsweredIsNotTakenFromAFailedDisk(t *testing.T) {
	l := openNew(t)
	l.patient = 300 * time.Millisecond
	delay(t, l)(func(m *nats.Msg) bool { m.Reply = ""; return true })
	s := l.embedded()
	s.health = func(*server.HealthzOptions) *server.HealthStatus {
		return &server.HealthStatus{Errors: []server.HealthzError{{Type: server.HealthzErrorStream, Stream: l.name, Error: "write error: injected"}}}
	}
	var chain [32]byte
	appendTo(t, l, nil, decision(&chain, 0, 1))
	if last, err := l.Last(t.Context()); err == nil || s.Err() == nil {
		t.Errorf("the log ends at %d, %v, and the server says %v", last, err, s.Err())
	}
}

func TestWhatIsCutShortIsNotFinishedBehindOthersEvents(t *testing.T) {
	for _, foreign := range []int{1, 3} {
		t.Run(fmt.Sprint(foreign), func(t *testing.T) {
			l := openNew(t)
			var chain [32]byte
			r := &redo{after: 0, batch: decision(&chain, 0, 4)}
			cut(t, l, r, 1)
			others := &redo{after: 1, batch: decision(&chain, 1, foreign)}
			if err := l.publish(t.Context(), l.own, 1, l.singles(others, 1)); err != nil {
				t.Fatal(err)
			}
			l.own.torn = r
			if last, err := l.Last(t.Context()); !errors.Is(err, events.ErrDamaged) {
				t.Errorf("the log ends at %d, %v", last, err)
			}
		})
	}
}

func TestAJournalThatCannotBeSyncedFailsTheServer(t *testing.T) {
	l := openNew(t)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0) // takes everything and syncs nothing
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for fd := range 1000 {
		if path, err := os.Readlink(fmt.Sprint("/proc/self/fd/", fd)); err == nil && strings.HasPrefix(path, filepath.Join(l.own.server.dir, "intent-")) {
			if err := unix.Dup3(int(null.Fd()), fd, unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
		}
	}
	var chain [32]byte
	all := decision(&chain, 0, 4)
	if _, err := l.Append(t.Context(), 0, all); !errors.Is(err, events.ErrUncertain) {
		t.Errorf("it is appended with %v", err)
	}
	select {
	case <-l.embedded().Failed():
	default:
		t.Error("the server goes on")
	}
	if _, err := l.Append(t.Context(), 0, all[3:]); err == nil {
		t.Error("something is appended after a sync that failed")
	}
}

// What JetStream would refuse for good must not be in the journal.
func TestWhatIsTooLargeIsNotAppended(t *testing.T) {
	l := openNew(t)
	var chain [32]byte
	for _, spoil := range []func(*events.Event){
		func(e *events.Event) { e.Data = make([]byte, 9<<20) },
		func(e *events.Event) { e.User = strings.Repeat("u", 70_000) },
		func(e *events.Event) { e.Object.Namespace = strings.Repeat("n", 4_000) },
	} {
		batch := decision(&chain, 0, 3)
		spoil(&batch[1])
		if _, err := l.Append(t.Context(), 0, batch); err == nil || errors.Is(err, events.ErrUncertain) || errors.Is(err, events.ErrStale) {
			t.Errorf("it is appended with %v", err)
		} else {
			t.Log(err)
		}
	}
	chain = [32]byte{}
	all := appendTo(t, l, nil, decision(&chain, 0, 3))
	expectLog(t, mustOpen(t, ServerOptions{Dir: crashed(t, l)}), all)
}

// Two who have the same log open in a process have one order.
func TestAStaleWriterStoresNothing(t *testing.T) {
	l := openNew(t)
	other, err := History(context.Background(), l.nc, Config{})
	if err != nil {
		t.Fatal(err)
	}
	var chain [32]byte
	all := appendTo(t, l, nil, decision(&chain, 0, 3))
	var rival [32]byte
	for _, after := range []uint64{0, 2, 4} {
		if _, err := other.Append(t.Context(), after, decision(&rival, after, 2)); !errors.Is(err, events.ErrStale) {
			t.Errorf("after %d: %v", after, err)
		}
	}
	all = appendTo(t, other, all, decision(&chain, 3, 2))
	expectLog(t, mustOpen(t, ServerOptions{Dir: crashed(t, l)}), all)
}

// Only the process that keeps a log appends to it, for only that has its journal.
func TestAnotherProcessOnlyReads(t *testing.T) {
	l := mustOpen(t, ServerOptions{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	var chain [32]byte
	all := appendTo(t, l, nil, decision(&chain, 0, 3))
	expectLog(t, l, all) // nothing is in flight, of which others cannot know
	seed, err := l.own.server.AddUser("other", Permissions{Publish: []string{">"}, Subscribe: []string{">"}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := WithSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := Connect("nats://"+l.own.server.Addr(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	other, err := History(t.Context(), nc, Config{})
	if err != nil {
		t.Fatal(err)
	}
	expectLog(t, other, all)
	if _, err := other.Append(t.Context(), 3, decision(&chain, 3, 1)); err == nil || errors.Is(err, events.ErrUncertain) {
		t.Errorf("it appends with %v", err)
	}
}
