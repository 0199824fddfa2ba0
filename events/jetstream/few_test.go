package jetstream

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
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

func openFew(t *testing.T) (*Log, func() *Log) {
	t.Helper()
	s, err := StartServer(ServerOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	open := func() *Log {
		l, err := History(t.Context(), nc, Config{})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	return open(), open
}

// cut stores an append of a few events only in part, as a process does that is
// killed between two of them.
func cut(t *testing.T, l *Log, r *redo, stored int) {
	t.Helper()
	if ok, err := l.intent.write(r); !ok || err != nil {
		t.Fatal(ok, err)
	}
	for i := range stored {
		part := &redo{after: r.after, batch: r.batch[:i+1]}
		if err := l.publish(t.Context(), part, r.after+uint64(i)); err != nil {
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

func TestWhatWasCutShortIsFinishedAtTheNextStart(t *testing.T) {
	for stored := range 5 {
		t.Run(fmt.Sprint(stored), func(t *testing.T) {
			l, open := openFew(t)
			var chain [32]byte
			all := decision(&chain, 0, 3)
			if _, err := l.Append(t.Context(), 0, all); err != nil {
				t.Fatal(err)
			}
			cut(t, l, &redo{after: 3, batch: decision(&chain, 3, 4)}, stored)
			if stored > 0 {
				chain = all[2].Chain
				all = append(all, decision(&chain, 3, 4)...)
			} else {
				chain = all[2].Chain
			}
			l = open()
			expectLog(t, l, all)
			next := decision(&chain, uint64(len(all)), 2)
			if _, err := l.Append(t.Context(), uint64(len(all)), next); err != nil {
				t.Fatal(err)
			}
			expectLog(t, open(), append(all, next...))
		})
	}
}

func TestWhatIsCutShortIsFinishedBeforeAnythingElse(t *testing.T) {
	l, _ := openFew(t)
	var chain [32]byte
	all := decision(&chain, 0, 5)
	cut(t, l, &redo{after: 0, batch: all}, 2)
	l.torn = &redo{after: 0, batch: all}
	next := decision(&chain, 5, 1)
	if _, err := l.Append(t.Context(), 5, next); err != nil {
		t.Fatal(err)
	}
	expectLog(t, l, append(all, next...))
}

func TestAnIntentThatIsWrittenInPartIsNone(t *testing.T) {
	l, open := openFew(t)
	var chain [32]byte
	all := decision(&chain, 0, 4)
	if _, err := l.Append(t.Context(), 0, all); err != nil {
		t.Fatal(err)
	}
	cut(t, l, &redo{after: 4, batch: decision(&chain, 4, 3)}, 0)
	if _, err := l.intent.file.WriteAt([]byte("x"), intentHead+60); err != nil {
		t.Fatal(err)
	}
	if r, err := l.intent.read(); r != nil || err != nil {
		t.Errorf("read as %v, %v", r, err)
	}
	expectLog(t, open(), all)
}

// spoil makes the append in an intent's file one that this program cannot read.
func spoil(t *testing.T, i *intent) {
	t.Helper()
	b := make([]byte, intentSize)
	if _, err := i.file.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	b[intentHead+4+32] = 255 // the first event's first tag
	sum := sha256.Sum256(b[sha256.Size : sha256.Size+4+binary.BigEndian.Uint32(b[sha256.Size:])])
	copy(b, sum[:])
	if _, err := i.file.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := i.read(); !errors.Is(err, events.ErrNewerLog) {
		t.Fatalf("the spoiled intent is read with %v", err)
	}
}

func TestAnIntentThatIsNotNeededIsNotRead(t *testing.T) {
	l, open := openFew(t)
	var chain [32]byte
	all := decision(&chain, 0, 4)
	if _, err := l.Append(t.Context(), 0, all); err != nil {
		t.Fatal(err)
	}
	spoil(t, l.intent)
	expectLog(t, open(), all)
}

func TestALogThatEndsInADecisionWithoutAnIntentIsNotOpened(t *testing.T) {
	for name, lose := range map[string]func(*testing.T, *intent){
		"unreadable": spoil,
		"torn": func(t *testing.T, i *intent) {
			if _, err := i.file.WriteAt([]byte("x"), intentHead+60); err != nil {
				t.Fatal(err)
			}
		},
		"another": func(t *testing.T, i *intent) {
			var chain [32]byte
			if ok, err := i.write(&redo{after: 1, batch: decision(&chain, 1, 4)}); !ok || err != nil {
				t.Fatal(ok, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, _ := openFew(t)
			var chain [32]byte
			cut(t, l, &redo{after: 0, batch: decision(&chain, 0, 4)}, 2)
			lose(t, l.intent)
			if _, err := History(t.Context(), l.nc, Config{}); !errors.Is(err, events.ErrDamaged) {
				t.Errorf("it is opened with %v", err)
			} else {
				t.Log(err)
			}
		})
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
			l, _ := openFew(t)
			l.patient = 300 * time.Millisecond
			release := delay(t, l)
			var chain [32]byte
			all := decision(&chain, 0, 4)
			if _, err := l.Append(t.Context(), 0, all); !errors.Is(err, events.ErrUncertain) {
				t.Fatalf("what is not answered is appended with %v", err)
			}
			l.patient = 10 * time.Second
			release(func(*nats.Msg) bool { return !lost })
			if lost {
				all, chain = nil, [32]byte{}
			} else {
				for state, err := l.state(t.Context()); state.LastSeq == 0; state, err = l.state(t.Context()) {
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			expectLog(t, l, all)
			next := decision(&chain, uint64(len(all)), 3)
			if _, err := l.Append(t.Context(), uint64(len(all)), next); err != nil {
				t.Fatal(err)
			}
			expectLog(t, l, append(all, next...))
		})
	}
}

// An append whose answer does not come counts only if the disk is sound.
func TestWhatIsNotAnsweredIsNotTakenFromAFailedDisk(t *testing.T) {
	l, _ := openFew(t)
	l.patient = 300 * time.Millisecond
	delay(t, l)(func(m *nats.Msg) bool { m.Reply = ""; return true })
	s := l.embedded()
	s.health = func(*server.HealthzOptions) *server.HealthStatus {
		return &server.HealthStatus{Errors: []server.HealthzError{{Type: server.HealthzErrorStream, Stream: l.name, Error: "write error: injected"}}}
	}
	var chain [32]byte
	if _, err := l.Append(t.Context(), 0, decision(&chain, 0, 4)); !errors.Is(err, events.ErrUncertain) || s.Err() == nil {
		t.Errorf("it is appended with %v, and the server says %v", err, s.Err())
	}
}

func TestWhatIsCutShortIsNotFinishedBehindOthersEvents(t *testing.T) {
	for _, foreign := range []int{1, 3} {
		t.Run(fmt.Sprint(foreign), func(t *testing.T) {
			l, _ := openFew(t)
			var chain [32]byte
			all := decision(&chain, 0, 4)
			cut(t, l, &redo{after: 0, batch: all}, 1)
			others := decision(&chain, 1, foreign)
			if err := l.publish(t.Context(), &redo{after: 1, batch: others}, 1); err != nil {
				t.Fatal(err)
			}
			l.torn = &redo{after: 0, batch: all}
			if last, err := l.Last(t.Context()); !errors.Is(err, events.ErrDamaged) {
				t.Errorf("the log ends at %d, %v", last, err)
			}
		})
	}
}

func TestAnIntentThatCannotBeSyncedFailsTheServer(t *testing.T) {
	l, _ := openFew(t)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0) // takes everything and syncs nothing
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	l.intent.file = null
	var chain [32]byte
	all := decision(&chain, 0, 4)
	if _, err := l.Append(t.Context(), 0, all); err == nil || errors.Is(err, events.ErrUncertain) {
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
