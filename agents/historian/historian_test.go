package historian_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/memlog"
	"github.com/reprise-run/reprise/projections/history"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/projections/pebble"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// serve answers questions about a log.
func serve(t *testing.T, log events.Log) *historian.Client {
	t.Helper()
	store, err := pebble.Open("p", pebble.Options{FS: vfs.NewMem(), Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	l, err := live.Start(t.Context(), log, live.Options{Store: store, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	nc := connect(t)
	stop, err := historian.Serve(nc, "test", historian.Source{Reader: store, Wait: l.Wait, Verify: func(ctx context.Context) (historian.Verification, error) {
		r, err := store.Verify(ctx, log, l.View())
		if err != nil {
			return historian.Verification{}, err
		}
		return historian.Verification{Sequence: r.Sequence, Objects: r.Objects, Rebuilt: r.Hash, Stored: r.Stored, Fault: r.Damage + r.Difference}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return historian.NewClient(nc, "test")
}

func connect(t *testing.T) *nats.Conn {
	t.Helper()
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: t.TempDir(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func TestQuestions(t *testing.T) {
	h := projectionstest.Random(1, 2000)
	log := memlog.New()
	grow(t, log, h.Events)
	c := serve(t, log)
	some := h.Events[1000]
	for name, q := range map[string]history.Query{
		"all, in pages":      {},
		"backward, in pages": {Backward: true},
		"an object":          {Object: some.Object},
		"a few":              {Type: "*.deleted", Limit: 7},
		"nothing":            {User: "nobody"},
	} {
		t.Run(name, func(t *testing.T) {
			var want []string
			for i := range h.Events {
				e := &h.Events[i]
				if q.Backward {
					e = &h.Events[len(h.Events)-1-i]
				}
				if q.Matches(e) && (q.Limit == 0 || len(want) < q.Limit) {
					want = append(want, e.Text())
				}
			}
			i := 0
			for e, err := range c.Events(t.Context(), q) {
				if err != nil {
					t.Fatal(err)
				}
				if i >= len(want) || e.Text() != want[i] {
					t.Fatalf("answer %d is\n%s", i, e.Text())
				}
				i++
			}
			if i != len(want) {
				t.Errorf("%d events, want %d", i, len(want))
			}
		})
	}
	var chain []events.Event
	for told, err := range c.Why(t.Context(), 1500) {
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, told.Event)
	}
	if chain[0].Sequence != 1500 || chain[len(chain)-1].Cause != 0 {
		t.Errorf("why: %v", chain)
	}
	root := history.Told{Event: chain[len(chain)-1]}
	ask := func(causes []uint64) iter.Seq2[history.Told, error] { return c.Following(t.Context(), causes) }
	tree, more, err := history.Down(root, 5000, ask)
	if err != nil || more || !contains(tree, 1500) {
		t.Errorf("what followed from its root does not have the event: %v", err)
	}
	if _, more, err = history.Down(root, 3, ask); err != nil || !more {
		t.Errorf("the first three that followed: more=%t, %v", more, err)
	}
	for _, err := range c.Why(t.Context(), 5000) {
		if err == nil || !strings.Contains(err.Error(), "there is no event 5000: the log goes from sequence 1 to 2000") {
			t.Errorf("why of an event to come: %v", err)
		}
	}
	v, err := c.Verify(t.Context())
	if err != nil || v.Fault != "" || v.Sequence != 2000 || v.Rebuilt != v.Stored || v.Rebuilt == "" {
		t.Errorf("verify: %+v, %v", v, err)
	}
}

func TestPoints(t *testing.T) {
	h := projectionstest.Random(1, 100)
	log := memlog.New()
	grow(t, log, h.Events)
	c := serve(t, log)
	now := projectionstest.Epoch.Add(time.Hour)
	for text, want := range map[string]uint64{"now": 100, "@12": 12, "-59m30s": 30, "2026-01-02T03:00:50Z": 50} {
		p, err := history.ParsePoint(text, now)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Resolve(t.Context(), p); err != nil || got != want {
			t.Errorf("%s is %d, want %d: %v", text, got, want, err)
		}
	}
	if _, err := c.Resolve(t.Context(), history.Point{Text: "@101", Sequence: 101}); err == nil || !strings.Contains(err.Error(), "there is no event 101 yet") {
		t.Errorf("an event to come: %v", err)
	}
}

// What is long comes in pages, and is the same as from the reader itself.
func TestPages(t *testing.T) {
	h := projectionstest.Random(3, 3000)
	for i := range h.Events {
		if h.Events[i].Sequence > 1 {
			h.Events[i].Cause = h.Events[i].Sequence - 1 // one long chain
		}
		h.Events[i].Note = []byte(`"` + strings.Repeat("x", 500) + `"`)
	}
	h.Seal(0)
	log := memlog.New()
	grow(t, log, h.Events)
	c := serve(t, log)
	n := uint64(3000)
	for told, err := range c.Why(t.Context(), n) {
		if err != nil || told.Event.Sequence != n {
			t.Fatalf("%d, want %d: %v", told.Event.Sequence, n, err)
		}
		n--
	}
	if n != 0 {
		t.Errorf("the chain ends at %d", n)
	}
	told := map[uint64]history.Told{}
	for e, err := range c.Tell(t.Context(), history.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		told[e.Event.Sequence] = e
	}
	causes := []uint64{5, 9, 1000}
	for i := range uint64(900) {
		causes = append(causes, 2000+i)
	}
	i := 0
	for e, err := range c.Following(t.Context(), causes) {
		if err != nil || e.Event.Cause != causes[i] || len(e.Changes) != len(told[e.Event.Sequence].Changes) {
			t.Fatalf("%s follows %d: %v", e.Event.Headline(), causes[i], err)
		}
		i++
	}
	if i != len(causes) || len(told) != 3000 {
		t.Errorf("%d events of %d followed, %d are told", i, len(causes), len(told))
	}
}

func TestDifferencesInPages(t *testing.T) {
	h := projectionstest.NewHistory()
	for i := range 2000 {
		h.Create(projectionstest.Pod("shop", fmt.Sprintf("web-%d", i)), `{"metadata":{"labels":{"app":"web"}},"spec":{"n":1}}`)
	}
	for i := range 1000 {
		h.Update(projectionstest.Pod("shop", fmt.Sprintf("web-%d", 2*i)), `[{"op":"replace","path":"/spec/n","value":"`+strings.Repeat("x", 400)+`"}]`)
	}
	log := memlog.New()
	grow(t, log, h.Events)
	c := serve(t, log)
	n := 0
	for d, err := range c.Between(t.Context(), history.Range{From: 2000, To: 3000, Labels: "app=web"}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("web-%d", 2*n); d.Object.Name != want || len(d.Changes) != 1 || d.Events != 1 {
			t.Fatalf("difference %d is %+v", n, d)
		}
		n++
	}
	if n != 1000 {
		t.Errorf("%d differences", n)
	}
	for _, err := range c.Between(t.Context(), history.Range{From: 1, To: 2, Labels: "="}) {
		if err == nil {
			t.Error("a selector that is none is taken")
		}
	}
}

func TestNamesAndSubjects(t *testing.T) {
	h := projectionstest.NewHistory()
	h.Create(projectionstest.Pod("shop", "web"), `{"metadata":{},"spec":{},"status":{}}`)
	h.Update(projectionstest.Pod("shop", "web"), `[{"op":"add","path":"/status/phase","value":"Pending"}]`)
	log := memlog.New()
	grow(t, log, h.Events)
	c := serve(t, log)
	q, err := c.Find(t.Context(), history.Name{Text: "pod/web", Namespace: "default"})
	if err != nil || q.Object != projectionstest.Pod("shop", "web") {
		t.Fatalf("%+v, %v", q, err)
	}
	s, err := c.Subject(t.Context(), q)
	if err != nil || s.Sequence != 2 || !strings.Contains(s.Remark, "pods/shop/web is not scheduled") {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := c.Find(t.Context(), history.Name{Text: "pod/none"}); err == nil || !strings.Contains(err.Error(), "there never was an object pod/none") {
		t.Errorf("found what never was: %v", err)
	}
}

func TestFollow(t *testing.T) {
	h := projectionstest.Random(2, 300)
	log := memlog.New()
	half := 150
	for h.Events[half-1].More {
		half++
	}
	grow(t, log, h.Events[:half])
	c := serve(t, log)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	next := uint64(100)
	for e, err := range c.Follow(ctx, history.Query{First: 100}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Sequence != next {
			t.Fatalf("sequence %d follows %d", e.Sequence, next-1)
		}
		if next++; next == uint64(half) {
			grow(t, log, h.Events[half:])
		}
		if next == 301 {
			return
		}
	}
	t.Error("following has ended by itself")
}

func TestFollowEndsAtTheLast(t *testing.T) {
	h := projectionstest.Random(2, 300)
	half := 150
	for h.Events[half-1].More {
		half++
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for name, to := range map[string]uint64{"what is there": 100, "what comes": uint64(half) + 1, "nothing": 10} {
		t.Run(name, func(t *testing.T) {
			log := memlog.New()
			grow(t, log, h.Events[:half])
			next := uint64(50)
			for e, err := range serve(t, log).Follow(ctx, history.Query{First: next, Last: to}) {
				if err != nil || e.Sequence != next {
					t.Fatalf("sequence %d follows %d: %v", e.Sequence, next-1, err)
				}
				if next++; next == uint64(half) {
					grow(t, log, h.Events[half:])
				}
			}
			if next != max(to+1, 50) || ctx.Err() != nil {
				t.Errorf("up to %d it ends before %d: %v", to, next, ctx.Err())
			}
		})
	}
}

// An event that is larger, in its text form, than what NATS carries at once comes whole.
func TestLargeEvents(t *testing.T) {
	h := projectionstest.NewHistory()
	h.Create(projectionstest.Pod("a", "b"), `{"metadata":{"name":"`+strings.Repeat(`\"`, 4<<20)+`"}}`)
	h.Create(projectionstest.Pod("a", "c"), `{"metadata":{}}`)
	log := memlog.New()
	grow(t, log, h.Events)
	c := serve(t, log)
	n := 0
	for told, err := range c.Tell(t.Context(), history.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := h.Events[n].Text(); told.Event.Text() != want {
			t.Errorf("event %d has %d bytes, not %d", told.Event.Sequence, len(told.Event.Text()), len(want))
		}
		n++
	}
	if n != 2 {
		t.Errorf("%d events of 2 are told", n)
	}
}

func TestNobodyAnswers(t *testing.T) {
	for _, err := range historian.NewClient(connect(t), "test").Why(t.Context(), 1) {
		if err == nil || !strings.Contains(err.Error(), "reprise up") {
			t.Errorf("without a server: %v", err)
		}
	}
}

func contains(t *history.Tree, sequence uint64) bool {
	if t.Event.Sequence == sequence {
		return true
	}
	for _, next := range t.Then {
		if contains(next, sequence) {
			return true
		}
	}
	return false
}

func grow(t *testing.T, log events.Log, batch []events.Event) {
	t.Helper()
	for len(batch) > 0 {
		n := min(len(batch), 900)
		for n < len(batch) && batch[n-1].More {
			n++
		}
		if _, err := log.Append(t.Context(), batch[0].Sequence-1, batch[:n]); err != nil {
			t.Fatal(err)
		}
		batch = batch[n:]
	}
}

// closing is a source that tells whether it is asked after it was closed.
type closing struct {
	history.Reader
	closed, late atomic.Bool
}

func (c *closing) Folded() uint64 {
	if c.closed.Load() {
		c.late.Store(true)
	}
	return 0
}

func (c *closing) Events(context.Context, history.Query) iter.Seq2[events.Event, error] {
	c.Folded()
	return func(func(events.Event, error) bool) {}
}

// Questions that have come when serving stops are answered, and not by asking what
// is closed next.
func TestStopsAnsweringFirst(t *testing.T) {
	nc := connect(t)
	for range 50 {
		source := &closing{}
		stop, err := historian.Serve(nc, "test", historian.Source{Reader: source})
		if err != nil {
			t.Fatal(err)
		}
		inbox := nats.NewInbox()
		answers, err := nc.SubscribeSync(inbox)
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			if err := nc.PublishRequest("test-history.events", inbox, []byte(`{}`)); err != nil {
				t.Fatal(err)
			}
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		stop()
		source.closed.Store(true)
		for i := range 200 {
			if _, err := answers.NextMsg(10 * time.Second); err != nil {
				t.Fatalf("question %d has no answer: %v", i, err)
			}
		}
		if source.late.Load() {
			t.Fatal("a question was asked of a source that is closed")
		}
	}
}

// What an answer cannot make sense of ends the answer, and not the server.
func TestAnswersThatFail(t *testing.T) {
	client := exporting(t, nil) // which has no history to ask: that brings the answer down
	for range 2 {
		_, err := client.Resolve(t.Context(), history.Point{Sequence: 1})
		if err == nil || !strings.Contains(err.Error(), "cannot make sense of") {
			t.Errorf("got %v", err)
		}
	}
}
