package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/agents/delivery"
	"github.com/reprise-run/reprise/agents/delivery/plan"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
)

// stage is a log on JetStream, a receiver, and what delivers between them.
type stage struct {
	t          *testing.T
	log        events.Log
	deliveries *jetstream.Deliveries
	receiver   *receiver
	nats       *nats.Conn
}

func newStage(t *testing.T) *stage {
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(server.Shutdown)
	nc, err := server.Connect()
	must(t, err)
	t.Cleanup(nc.Close)
	log, err := jetstream.History(t.Context(), nc, jetstream.Config{})
	must(t, err)
	must(t, jetstream.MakeDeliveries(t.Context(), nc, jetstream.Config{}))
	deliveries, err := jetstream.OpenDeliveries(t.Context(), nc, jetstream.Config{})
	must(t, err)
	r := &receiver{answers: map[string]func(w http.ResponseWriter, attempt int) bool{}, attempts: map[string]int{}}
	r.changed = sync.NewCond(&r.mu)
	r.server = httptest.NewServer(r)
	t.Cleanup(r.server.Close)
	return &stage{t: t, log: log, deliveries: deliveries, receiver: r, nats: nc}
}

// buried are the dead letters of a delivery.
func (s *stage) buried(name string) (all []events.DeadLetter) {
	s.t.Helper()
	for l, err := range s.deliveries.Buried(s.t.Context(), name) {
		must(s.t, err)
		all = append(all, l)
	}
	return all
}

// happen appends an event about each of the pods.
func (s *stage) happen(pods ...string) {
	s.t.Helper()
	last, err := s.log.Last(s.t.Context())
	must(s.t, err)
	var batch []events.Event
	for i, name := range pods {
		batch = append(batch, events.Event{
			Sequence: last + 1 + uint64(i), Type: "pod.observed", Object: events.Ref{Resource: "pods", Namespace: "shop", Name: name},
			UID: "u-" + name, Actor: events.Actor{Kind: "node", Name: "n1", Version: "v1"}, Cause: last, Note: []byte(`{"ünder":"way"}`),
			Time: time.UnixMilli(1767323045678).UTC(), Data: []byte(`[{"op":"add","path":"/status","value":{"phase":"Running"}}]`),
		})
	}
	_, err = s.log.Append(s.t.Context(), last, batch)
	must(s.t, err)
}

// Event is delivery.Source's.
func (s *stage) Event(ctx context.Context, sequence uint64) (events.Event, error) {
	return s.log.Get(ctx, sequence)
}

// Follow is delivery.Source's.
func (s *stage) Follow(ctx context.Context, from uint64) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		r, err := s.log.Follow(ctx, from)
		if err != nil {
			yield(events.Event{}, err)
			return
		}
		defer r.Close()
		for {
			batch, err := r.Next(ctx)
			if err != nil {
				return
			}
			for _, e := range batch {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// run delivers until stop is called.
func (s *stage) run(adjust func(*delivery.Options)) (stop func() error) {
	s.t.Helper()
	w, err := delivery.NewWebhook(s.receiver.server.URL, time.Minute)
	must(s.t, err)
	o := delivery.Options{
		Name: "test", Source: s, Sender: w, Deliveries: s.deliveries, Plan: plan.Defaults(),
		Log: slog.New(slog.DiscardHandler),
	}
	o.Plan.Pause, o.Plan.Longest, o.Plan.GiveUp = time.Millisecond, 20*time.Millisecond, 100*time.Millisecond
	if adjust != nil {
		adjust(&o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- delivery.Run(ctx, o) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	s.t.Cleanup(func() { _ = stop() })
	return stop
}

// receiver is an HTTP server that notes what it accepts.
type receiver struct {
	server *httptest.Server

	mu       sync.Mutex
	changed  *sync.Cond
	accepted []string // "id name", as they came
	headers  []http.Header
	bodies   []string
	// answers are for events about an object, in place of acceptance; one says
	// whether it has dealt with it.
	answers  map[string]func(w http.ResponseWriter, attempt int) bool
	attempts map[string]int
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, _ := io.ReadAll(q.Body)
	name := q.Header.Get("Ce-Subject")[strings.LastIndexByte(q.Header.Get("Ce-Subject"), '/')+1:]
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.changed.Broadcast()
	r.attempts[name]++
	if answer := r.answers[name]; answer != nil && answer(w, r.attempts[name]) {
		return
	}
	r.accepted = append(r.accepted, q.Header.Get("Ce-Id")+" "+name)
	r.headers = append(r.headers, q.Header)
	r.bodies = append(r.bodies, string(body))
}

func (r *receiver) answer(name string, f func(w http.ResponseWriter, attempt int) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers[name] = f
}

// await waits until n events are accepted, and returns all that were.
func (r *receiver) await(t *testing.T, n int) []string {
	t.Helper()
	late := time.AfterFunc(60*time.Second, func() { r.changed.Broadcast() })
	defer late.Stop()
	began := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.accepted) < n {
		if time.Since(began) > 59*time.Second {
			t.Fatalf("only %d of %d events were accepted: %v", len(r.accepted), n, r.accepted)
		}
		r.changed.Wait()
	}
	return slices.Clone(r.accepted)
}

// of are those about one object.
func of(name string, accepted []string) string {
	var ids []string
	for _, a := range accepted {
		if id, is := strings.CutSuffix(a, " "+name); is {
			ids = append(ids, id)
		}
	}
	return strings.Join(ids, " ")
}

func TestDeliversInOrderAndGoesOn(t *testing.T) {
	s := newStage(t)
	s.happen("a", "b", "a", "c", "a")
	stop := s.run(nil)
	if got := s.receiver.await(t, 5); of("a", got) != "1 3 5" || of("b", got) != "2" {
		t.Errorf("it delivered %v", got)
	}
	h, body := s.receiver.headers[0], s.receiver.bodies[0]
	for name, want := range map[string]string{
		"Ce-Specversion": "1.0", "Ce-Type": "pod.observed", "Ce-Source": "/node/n1", "Ce-Time": "2026-01-02T03:04:05.678Z",
		"Content-Type": "application/json-patch+json", "Ce-Dataschema": "https://reprise.run/schemas/1/pods/pod.observed.json",
		"Ce-Sourceversion": "v1", "Ce-Note": "{%22%C3%BCnder%22:%22way%22}",
	} {
		if h.Get(name) != want {
			t.Errorf("the header %s is %q, not %q", name, h.Get(name), want)
		}
	}
	if want := `[{"op":"add","path":"/status","value":{"phase":"Running"}}]`; body != want {
		t.Errorf("the body is %s", body)
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	s.happen("b", "a")
	s.run(nil)
	if got := s.receiver.await(t, 7)[5:]; of("a", got)+of("b", got) != "76" {
		t.Errorf("after a restart it delivered %v", got)
	}
}

// TestReceiverFails has the receiver fail in each way for one object; the others
// are not disturbed, and the object's events come in order.
func TestReceiverFails(t *testing.T) {
	status := func(code int) func(w http.ResponseWriter) { return func(w http.ResponseWriter) { w.WriteHeader(code) } }
	for name, fail := range map[string]func(w http.ResponseWriter){
		"500": status(500), "503": status(503), "429": status(429), "408": status(408),
		"401": status(401), "403": status(403), "404": status(404), "302": status(302),
		"retry after": func(w http.ResponseWriter) { w.Header().Set("Retry-After", "0"); w.WriteHeader(429) },
		"dies midway": func(w http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.receiver.answer("bad", func(w http.ResponseWriter, attempt int) bool {
				if attempt <= 3 {
					fail(w)
				}
				return attempt <= 3
			})
			s.happen("bad", "good", "bad", "good", "bad")
			s.run(func(o *delivery.Options) { o.Plan.GiveUp = time.Hour })
			if got := s.receiver.await(t, 5); of("bad", got) != "1 3 5" || of("good", got) != "2 4" {
				t.Errorf("it delivered %v", got)
			}
		})
	}
}

func TestSlowReceiver(t *testing.T) {
	s := newStage(t)
	release := make(chan struct{})
	s.happen("slow", "quick")
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if strings.HasSuffix(q.Header.Get("Ce-Subject"), "slow") {
			select {
			case <-release:
			case <-q.Context().Done():
				return
			}
		}
		s.receiver.ServeHTTP(w, q)
	}))
	defer slow.Close()
	w, err := delivery.NewWebhook(slow.URL, 50*time.Millisecond)
	must(t, err)
	s.run(func(o *delivery.Options) { o.Sender = w; o.Plan.GiveUp = time.Hour })
	s.receiver.await(t, 1)
	close(release)
	got := s.receiver.await(t, 2)
	for of("slow", got) == "" {
		got = s.receiver.await(t, len(got)+1)
	}
	// On a busy machine, an answer in time may be too late for 50 ms.
	once := strings.Join(slices.Compact(strings.Fields(of("quick", got))), " ")
	if once != "2" || of("slow", got) != "1" {
		t.Errorf("it delivered %v", got)
	}
}

func TestDeadLetters(t *testing.T) {
	s := newStage(t)
	s.receiver.answer("refused", func(w http.ResponseWriter, attempt int) bool {
		if attempt == 1 {
			http.Error(w, "not in my house", http.StatusUnprocessableEntity)
		}
		return attempt == 1
	})
	s.receiver.answer("poison", func(w http.ResponseWriter, _ int) bool {
		w.WriteHeader(http.StatusInternalServerError)
		return true
	})
	s.happen("refused", "refused", "poison", "good")
	stop := s.run(nil)
	if got := s.receiver.await(t, 2); of("refused", got) != "2" || of("good", got) != "4" {
		t.Errorf("it delivered %v", got)
	}
	all := s.buried("test")
	for len(all) < 2 {
		all = s.buried("test")
	}
	_ = stop()
	l := all[0]
	if l.Event.Sequence != 1 || l.Attempts != 1 || !strings.Contains(l.Reason, "422 Unprocessable Entity: not in my house") || l.Target != s.receiver.server.URL || len(l.Event.Data) == 0 {
		t.Errorf("the first dead letter is %+v", l)
	}
	s.receiver.mu.Lock()
	poisoned := s.receiver.attempts["poison"]
	s.receiver.mu.Unlock()
	if l = all[1]; l.Event.Sequence != 3 || l.Attempts != poisoned || !strings.Contains(l.Reason, "500") {
		t.Errorf("the second dead letter is %+v", l)
	}
	must(t, s.deliveries.Bury(t.Context(), all[0])) // As after a crash in between.
	must(t, s.deliveries.Drop(t.Context(), "test", 1))
	if err := s.deliveries.Drop(t.Context(), "test", 1); !errors.Is(err, events.ErrNotFound) {
		t.Errorf("dropping it again: %v", err)
	}
	if all := s.buried(""); len(all) != 1 || all[0].Event.Sequence != 3 {
		t.Errorf("what stays is %+v", all)
	}
}

// TestKilledMidway ends the process with one event of an object open and later
// ones of others done: afterwards that one comes, and nothing before or twice.
func TestKilledMidway(t *testing.T) {
	s := newStage(t)
	s.receiver.answer("bad", func(w http.ResponseWriter, _ int) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	s.happen("bad", "bad", "good", "good")
	stop := s.run(func(o *delivery.Options) { o.Plan.GiveUp = time.Hour })
	s.receiver.await(t, 2)
	_ = stop()
	s.receiver.answer("bad", nil)
	s.happen("good", "bad")
	s.run(nil)
	if got := s.receiver.await(t, 6); of("bad", got) != "1 2 6" || of("good", got) != "3 4 5" {
		t.Errorf("it delivered %v", got)
	}
}

// TestTwoOfOneName starts a second process under the name: the first ends.
func TestTwoOfOneName(t *testing.T) {
	s := newStage(t)
	first := make(chan error, 1)
	w, err := delivery.NewWebhook(s.receiver.server.URL, time.Second)
	must(t, err)
	claimed := make(chan struct{})
	go func() {
		first <- delivery.Run(t.Context(), delivery.Options{
			Name: "test", Source: s, Sender: w, Deliveries: s.deliveries, Plan: plan.Defaults(), Log: slog.New(slog.DiscardHandler),
			Claimed: func(events.DeliveryPosition, bool) { close(claimed) },
		})
	}()
	<-claimed
	other := newDeliveries(t, s)
	_, known, err := other.Claim(t.Context(), "test", events.DeliveryPosition{})
	if err != nil || !known {
		t.Fatalf("the second claim: %v, %v", known, err)
	}
	s.happen("a")
	select {
	case err := <-first:
		if !errors.Is(err, events.ErrClaimed) {
			t.Errorf("the first ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the first goes on")
	}
}

// newDeliveries is what another process has.
func newDeliveries(t *testing.T, s *stage) *jetstream.Deliveries {
	t.Helper()
	d, err := jetstream.OpenDeliveries(t.Context(), s.nats, jetstream.Config{})
	must(t, err)
	return d
}

func TestBadAddresses(t *testing.T) {
	for _, to := range []string{"", "example.com", "ftp://example.com", "http://", "://x"} {
		if _, err := delivery.NewWebhook(to, time.Second); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", to)) {
			t.Errorf("%q: %v", to, err)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
