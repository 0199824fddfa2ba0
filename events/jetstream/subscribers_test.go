package jetstream_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
)

// world is a server with a log and subscribers.
type world struct {
	t           *testing.T
	dir         string
	server      *jetstream.Server
	log         events.Log
	subscribers *jetstream.Subscribers
	keys        map[string]nkeys.KeyPair
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, dir: t.TempDir(), keys: map[string]nkeys.KeyPair{}}
	w.open()
	return w
}

func (w *world) open() {
	w.t.Helper()
	w.server = start(w.t, jetstream.ServerOptions{Dir: w.dir, Listen: "127.0.0.1:0"})
	w.log = openLog(w.t, w.server, false)
	var err error
	w.subscribers, err = jetstream.OpenSubscribers(w.t.Context(), w.server, connect(w.t, w.server), jetstream.Config{}, slog.New(slog.DiscardHandler))
	must(w.t, err)
	w.t.Cleanup(w.subscribers.Close)
}

// restart ends the server as it ends when it is told to, and starts it again.
func (w *world) restart() {
	w.subscribers.Close()
	w.server.Shutdown()
	w.open()
}

// add adds a subscriber with a key.
func (w *world) add(name string, filters ...events.Filter) {
	w.t.Helper()
	w.addAs(name, func(*events.Subscriber) {}, filters...)
}

// addAs adds a subscriber that is special.
func (w *world) addAs(name string, special func(*events.Subscriber), filters ...events.Filter) {
	w.t.Helper()
	pair, err := nkeys.CreateUser()
	must(w.t, err)
	public, err := pair.PublicKey()
	must(w.t, err)
	w.keys[name] = pair
	s := events.Subscriber{Name: name, Filters: filters, Key: public, Created: time.Unix(1, 0).UTC()}
	special(&s)
	must(w.t, w.subscribers.Add(w.t.Context(), s))
}

// dial connects as a subscriber, as any NATS client would.
func (w *world) dial(name string) (*nats.Conn, error) {
	public, err := w.keys[name].PublicKey()
	must(w.t, err)
	nc, err := nats.Connect("nats://"+w.server.Addr(), nats.Nkey(public, w.keys[name].Sign), nats.MaxReconnects(0),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err == nil {
		w.t.Cleanup(nc.Close)
	}
	return nc, err
}

func (w *world) connect(name string) *nats.Conn {
	w.t.Helper()
	nc, err := w.dial(name)
	must(w.t, err)
	return nc
}

// happen appends an event for each object and fact: "pods/shop/web-1 bound".
func (w *world) happen(facts ...string) {
	w.t.Helper()
	var batch []events.Event
	for _, f := range facts {
		path, fact, _ := strings.Cut(f, " ")
		p := strings.Split(path, "/")
		resource, group, _ := strings.Cut(p[0], ".")
		batch = append(batch, events.Event{
			Type: "thing." + fact, Actor: events.Actor{Kind: "api"}, Data: []byte(`[{"op":"add","path":"/spec","value":1}]`),
			Object: events.Ref{Group: group, Resource: resource, Namespace: p[1], Name: p[2]},
		})
	}
	last, err := w.log.Last(w.t.Context())
	must(w.t, err)
	_, err = w.log.Append(w.t.Context(), last, batch)
	must(w.t, err)
	_, err = w.log.Last(w.t.Context()) // nothing is in flight
	must(w.t, err)
}

// fetch waits for the next n events, returns their sequences and those of what
// comes right after them, up to limit in all, and acknowledges them if it is told to.
// It waits because a consumer hears of a new event a moment after its writer.
func fetch(t *testing.T, nc *nats.Conn, name string, n, limit int, acknowledge bool) (ids []string) {
	t.Helper()
	js, err := natsjs.New(nc)
	must(t, err)
	c, err := js.Consumer(t.Context(), "REPRISE", name)
	must(t, err)
	take := func(batch natsjs.MessageBatch, err error) {
		must(t, err)
		for m := range batch.Messages() {
			ids = append(ids, m.Headers()["ce-id"][0])
			if acknowledge {
				must(t, m.DoubleAck(t.Context()))
			}
		}
		must(t, batch.Error())
	}
	take(c.Fetch(n, natsjs.FetchMaxWait(10*time.Second)))
	if len(ids) < limit {
		take(c.FetchNoWait(limit - len(ids)))
	}
	return ids
}

var inShop = events.Filter{Resource: "pods", Namespace: "shop", Fact: "*"}

func TestSubscribersReadTheirPartAndResume(t *testing.T) {
	w := newWorld(t)
	w.add("billing", inShop, events.Filter{Group: "apps", Resource: "*", Namespace: "shop", Fact: "scaled"},
		events.Filter{Resource: "pods", Namespace: "shop", Fact: "bound"})
	w.happen("pods/shop/a created", "pods/other/a created", "pods/shop/a bound", "deployments.apps/shop/d scaled", "secrets/shop/s created")
	if got := fetch(t, w.connect("billing"), "billing", 2, 2, true); fmt.Sprint(got) != "[1 3]" {
		t.Errorf("the first two events of billing are %v", got)
	}
	w.restart()
	w.happen("pods/shop/b created")
	if got := fetch(t, w.connect("billing"), "billing", 2, 9, true); fmt.Sprint(got) != "[4 6]" {
		t.Errorf("after a restart the next events of billing are %v", got)
	}
	all, err := w.subscribers.List(t.Context())
	must(t, err)
	if len(all) != 1 || all[0].Name != "billing" || all[0].Done != 6 || all[0].Pending != 0 || all[0].Seen.IsZero() {
		t.Errorf("the list is %+v", all)
	}
}

// TestSubscribersComeBack goes away with events in hand. They come first when it is
// back, and not when their time is up; another connection meanwhile gets others.
func TestSubscribersComeBack(t *testing.T) {
	w := newWorld(t)
	w.add("billing", inShop)
	w.happen("pods/shop/a created", "pods/shop/a bound", "pods/shop/a ready", "pods/shop/b created")
	nc := w.connect("billing")
	if got := fetch(t, nc, "billing", 1, 1, true); fmt.Sprint(got) != "[1]" {
		t.Errorf("the first is %v", got)
	}
	if got := fetch(t, nc, "billing", 2, 2, false); fmt.Sprint(got) != "[2 3]" {
		t.Errorf("then come %v", got)
	}
	second := w.connect("billing")
	if got := fetch(t, second, "billing", 1, 1, false); fmt.Sprint(got) != "[4]" {
		t.Errorf("a second connection gets %v", got)
	}
	nc.Close()
	second.Close()
	eventually(t, "the connections are closed", func() bool {
		all, err := w.subscribers.List(t.Context())
		must(t, err)
		return all[0].Connected == 0
	})
	w.happen("pods/shop/b bound")
	if got := fetch(t, w.connect("billing"), "billing", 4, 9, true); fmt.Sprint(got) != "[2 3 4 5]" {
		t.Errorf("after it was away come %v", got)
	}
}

// TestSubscribersHaveFewConnections connects as often as it may, and once more.
func TestSubscribersHaveFewConnections(t *testing.T) {
	w := newWorld(t)
	w.add("many", events.Filter{Group: "*", Resource: "*", Namespace: "*", Fact: "*"})
	w.add("one", events.Filter{Group: "*", Resource: "*", Namespace: "*", Fact: "*"})
	for range 32 {
		w.connect("many")
	}
	if _, err := w.dial("many"); !errors.Is(err, nats.ErrMaxAccountConnectionsExceeded) {
		t.Errorf("one more: %v", err)
	}
	w.connect("one")
}

// TestSubscribersSendAndHoldLittle subscribes more often than it may, and sends more.
func TestSubscribersSendAndHoldLittle(t *testing.T) {
	w := newWorld(t)
	w.add("billing", inShop)
	w.happen("pods/shop/a created")
	nc := w.connect("billing")
	failed := make(chan error, 100)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { failed <- err })
	for range 65 {
		_, err := nc.SubscribeSync(nc.NewInbox())
		must(t, err)
	}
	must(t, nc.Flush())
	if err := <-failed; !errors.Is(err, nats.ErrMaxSubscriptionsExceeded) {
		t.Errorf("one subscription too many: %v", err)
	}
	other := w.connect("billing")
	if got := fetch(t, other, "billing", 1, 1, true); fmt.Sprint(got) != "[1]" {
		t.Errorf("another connection reads %v", got)
	}
	if err := other.Publish("$JS.API.CONSUMER.MSG.NEXT.REPRISE.billing", make([]byte, 8<<10+1)); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("a request of more than 8 kB: %v", err)
	}
	// Nor may one whose library does not look at what it may send.
	raw, err := net.Dial("tcp", w.server.Addr())
	must(t, err)
	defer raw.Close()
	sum := sha256.Sum256([]byte("secret"))
	must(t, w.subscribers.Add(t.Context(), events.Subscriber{Name: "plain", Filters: []events.Filter{inShop}, Password: hex.EncodeToString(sum[:])}))
	_, err = fmt.Fprintf(raw, "CONNECT {\"user\":\"plain\",\"pass\":\"secret\"}\r\nPUB $JS.API.CONSUMER.MSG.NEXT.REPRISE.plain 9000\r\n")
	must(t, err)
	said, err := io.ReadAll(raw)
	if !strings.Contains(string(said), "Maximum Payload Violation") {
		t.Errorf("the server says %s, %v", said, err)
	}
}

func TestSubscribersBeginWhereTheyAreTold(t *testing.T) {
	w := newWorld(t)
	w.happen("pods/shop/a created", "pods/shop/b created", "pods/shop/c created")
	sum := sha256.Sum256([]byte("let me in"))
	must(t, w.subscribers.Add(t.Context(), events.Subscriber{
		Name: "late", Filters: []events.Filter{inShop}, Password: hex.EncodeToString(sum[:]), After: 2,
	}))
	if nc, err := nats.Connect("nats://"+w.server.Addr(), nats.UserInfo("late", "let me out")); err == nil {
		nc.Close()
		t.Error("a wrong password is as good as the right one")
	}
	nc, err := nats.Connect("nats://"+w.server.Addr(), nats.UserInfo("late", "let me in"))
	must(t, err)
	defer nc.Close()
	if got := fetch(t, nc, "late", 1, 9, true); fmt.Sprint(got) != "[3]" {
		t.Errorf("after 2 comes %v", got)
	}
	err = w.subscribers.Add(t.Context(), events.Subscriber{Name: "late", Filters: []events.Filter{inShop}, Key: "U"})
	if !errors.Is(err, events.ErrSubscriberExists) {
		t.Errorf("adding it again: %v", err)
	}
}

func TestRemovedSubscribersAreOut(t *testing.T) {
	w := newWorld(t)
	w.add("billing", inShop)
	w.happen("pods/shop/a created")
	nc := w.connect("billing")
	closed := nc.StatusChanged(nats.CLOSED)
	must(t, w.subscribers.Remove(t.Context(), "billing"))
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("its connection lives on")
	}
	if _, err := w.dial("billing"); err == nil {
		t.Error("it can connect again")
	}
	if err := w.subscribers.Remove(t.Context(), "billing"); !errors.Is(err, events.ErrNoSubscriber) {
		t.Errorf("removing it again: %v", err)
	}
	w.add("billing", inShop)
	if got := fetch(t, w.connect("billing"), "billing", 1, 9, false); fmt.Sprint(got) != "[1]" {
		t.Errorf("a new one of the name gets %v", got)
	}
	w.restart()
	if got := fetch(t, w.connect("billing"), "billing", 1, 9, false); fmt.Sprint(got) != "[1]" {
		t.Errorf("what was not acknowledged before a restart is sent again: %v", got)
	}
}

// forbidden is what the thief asks for, with what it says.
var forbidden = map[string]string{
	"$JS.API.INFO":                                            "",
	"$JS.API.STREAM.NAMES":                                    "",
	"$JS.API.STREAM.INFO.REPRISE":                             "",
	"$JS.API.STREAM.MSG.GET.REPRISE":                          `{"seq":2}`,
	"$JS.API.DIRECT.GET.REPRISE":                              `{"seq":2}`,
	"$JS.API.DIRECT.GET.REPRISE.reprise.core.secrets.shop.>":  "",
	"$JS.API.DIRECT.GET.KV_reprise-subscribers.$KV.reprise.>": "",
	"$JS.API.STREAM.DELETE.REPRISE":                           "",
	"$JS.API.STREAM.PURGE.REPRISE":                            "",
	"$JS.API.STREAM.MSG.DELETE.REPRISE":                       `{"seq":1}`,
	"$JS.API.STREAM.CREATE.MINE":                              `{"name":"MINE","sources":[{"name":"REPRISE"}]}`,
	"$JS.API.STREAM.UPDATE.REPRISE":                           `{"name":"REPRISE"}`,
	"$JS.API.STREAM.SNAPSHOT.REPRISE":                         `{"deliver_subject":"_INBOX.x"}`,
	"$JS.API.CONSUMER.CREATE.REPRISE":                         `{"stream_name":"REPRISE","config":{"filter_subject":"reprise.>","deliver_subject":"_INBOX.x"}}`,
	"$JS.API.CONSUMER.CREATE.REPRISE.thief":                   `{"stream_name":"REPRISE","config":{"durable_name":"thief","filter_subject":"reprise.>"}}`,
	"$JS.API.CONSUMER.CREATE.REPRISE.mine.reprise.core.>":     `{"stream_name":"REPRISE","config":{"name":"mine","filter_subject":"reprise.core.>"}}`,
	"$JS.API.CONSUMER.DURABLE.CREATE.REPRISE.thief":           `{"stream_name":"REPRISE","config":{"durable_name":"thief","filter_subject":"reprise.>"}}`,
	"$JS.API.CONSUMER.LIST.REPRISE":                           "",
	"$JS.API.CONSUMER.NAMES.REPRISE":                          "",
	"$JS.API.CONSUMER.DELETE.REPRISE.thief":                   "",
	"$JS.API.CONSUMER.DELETE.REPRISE.billing":                 "",
	"$JS.API.CONSUMER.PAUSE.REPRISE.billing":                  `{"pause_until":"2099-01-01T00:00:00Z"}`,
	"$JS.API.CONSUMER.RESET.REPRISE.thief":                    "",
	"$JS.API.CONSUMER.RESET.REPRISE.billing":                  "",
	"$JS.API.CONSUMER.INFO.REPRISE.billing":                   "",
	"$JS.API.CONSUMER.MSG.NEXT.REPRISE.billing":               `{"batch":1,"no_wait":true}`,
	"$JS.API.CONSUMER.MSG.NEXT.REPRISE.*":                     `{"batch":1,"no_wait":true}`,
	"$JS.ACK.REPRISE.billing.1.1.1.0.0":                       "+ACK",
	"reprise.propose.api.-":                                   "{}",
	"reprise.propose.node.n1":                                 "{}",
	"reprise-history.events":                                  "{}",
	"reprise-integrator.list":                                 "{}",
	"reprise-bus.call.n1.token":                               "{}",
	"$SYS.REQ.SERVER.PING":                                    "",
	"$SYS.REQ.ACCOUNT.PING.CONNZ":                             "",
	"$KV.reprise-subscribers.thief":                           "{}",
	"reprise.core.pods.shop.forged":                           "{}",
	"reprise-volatile.core.events.shop.forged":                "{}",
}

// TestSubscribersCanDoNothingElse tries whatever a subscriber might to read, write,
// or break what is not its own.
func TestSubscribersCanDoNothingElse(t *testing.T) {
	w := newWorld(t)
	w.add("billing", inShop)
	w.add("thief", events.Filter{Resource: "configmaps", Namespace: "thief", Fact: "*"})
	w.happen("pods/shop/a created", "secrets/shop/s created", "configmaps/thief/c created")
	thief := w.connect("thief")
	state := w.state()

	t.Run("asks", func(t *testing.T) {
		for subject, body := range forbidden {
			if m, err := thief.Request(subject, []byte(body), 100*time.Millisecond); err == nil {
				t.Errorf("%s is answered: %.300s", subject, m.Data)
			}
		}
	})
	t.Run("has answers go where it may not write", func(t *testing.T) {
		w.happen("configmaps/thief/c created", "configmaps/thief/c created")
		state = w.state()
		for _, reply := range []string{
			"reprise.core.pods.shop.forged", "$JS.API.STREAM.PURGE.REPRISE", "$JS.API.CONSUMER.DELETE.REPRISE.billing",
			"reprise.propose.api.-", "$KV.reprise-subscribers.thief", "$JS.ACK.REPRISE.billing.1.1.1.0.0",
		} {
			for subject, body := range map[string]string{
				"$JS.API.CONSUMER.MSG.NEXT.REPRISE.thief": `{"batch":1,"no_wait":true}`,
				"$JS.API.CONSUMER.INFO.REPRISE.thief":     "",
				"$JS.ACK.REPRISE.thief.1.3.1.0.0":         "+ACK",
				"$JS.ACK.REPRISE.thief.2.4.2.0.0":         `+NXT {"batch":1}`,
			} {
				must(t, thief.PublishRequest(subject, reply, []byte(body)))
			}
		}
		// A connection that was thrown out for this tried in vain, too.
		_ = thief.FlushTimeout(time.Second)
		thief = w.connect("thief")
	})
	t.Run("listens", func(t *testing.T) {
		heard := make(chan *nats.Msg, 100)
		for _, subject := range []string{">", "_INBOX.>", "*.>", "reprise.>", "$JS.>", "$SYS.>", "_R_.>", "$KV.>"} {
			_, err := thief.ChanSubscribe(subject, heard)
			must(t, err)
		}
		must(t, thief.Flush())
		if got := fetch(t, w.connect("billing"), "billing", 1, 9, true); fmt.Sprint(got) != "[1]" {
			t.Errorf("billing got %v", got)
		}
		w.happen("pods/shop/b created")
		must(t, thief.Flush())
		select {
		case m := <-heard:
			t.Errorf("the thief heard %s: %s", m.Subject, m.Data)
		default:
		}
	})
	if after := w.state(); after != bump(state) {
		t.Errorf("something has changed:\n%s\nbefore:\n%s", after, state)
	}
	if got := fetch(t, w.connect("billing"), "billing", 1, 9, false); fmt.Sprint(got) != "[6]" {
		t.Errorf("billing is now at %v", got)
	}
}

// state is all that a subscriber might have changed.
func (w *world) state() string {
	w.t.Helper()
	js, err := natsjs.New(connect(w.t, w.server))
	must(w.t, err)
	var b strings.Builder
	for stream := range js.ListStreams(w.t.Context()).Info() {
		fmt.Fprintf(&b, "%s last %d messages %d\n", stream.Config.Name, stream.State.LastSeq, stream.State.Msgs)
	}
	s, err := js.Stream(w.t.Context(), "REPRISE")
	must(w.t, err)
	for c := range s.ListConsumers(w.t.Context()).Info() {
		fmt.Fprintf(&b, "consumer %s %v paused %v\n", c.Name, c.Config.FilterSubjects, c.Paused)
	}
	return b.String()
}

// bump is the state after one more event.
func bump(state string) string {
	return strings.Replace(state, "REPRISE last 5 messages 5", "REPRISE last 6 messages 6", 1)
}

// TestSubscriberThatDoesNotRead asks for events and then reads nothing from its
// connection, as a program does that hangs. The log goes on, and the events are
// there when the program is.
func TestSubscriberThatDoesNotRead(t *testing.T) {
	w := newWorld(t)
	w.add("stuck", inShop)
	conn := stuckConnection(t, w)
	for range 40 {
		for n := range 8 {
			_, err := fmt.Fprintf(conn, "PUB $JS.API.CONSUMER.MSG.NEXT.REPRISE.stuck _INBOX.%d %d\r\n%s\r\n", n, len(`{"batch":500}`), `{"batch":500}`)
			must(t, err)
		}
		var facts []string
		for i := range 500 {
			facts = append(facts, fmt.Sprintf("pods/shop/p%d observed", i))
		}
		w.happen(facts...)
	}
	var is events.SubscriberStatus
	eventually(t, "the consumer has heard of all that happened", func() bool {
		all, err := w.subscribers.List(t.Context())
		must(t, err)
		is = all[0]
		return is.Unacknowledged+is.Pending == 20_000
	})
	if is.Unacknowledged > 1000 {
		t.Errorf("%d events are under way and %d wait", is.Unacknowledged, is.Pending)
	}
}

// stuckConnection speaks the NATS protocol itself, subscribes, and never reads
// again.
func stuckConnection(t *testing.T, w *world) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", w.server.Addr())
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	line, err := bufio.NewReader(conn).ReadString('\n')
	must(t, err)
	var info struct{ Nonce string }
	must(t, json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info))
	signature, err := w.keys["stuck"].Sign([]byte(info.Nonce))
	must(t, err)
	public, err := w.keys["stuck"].PublicKey()
	must(t, err)
	_, err = fmt.Fprintf(conn, "CONNECT {\"verbose\":false,\"headers\":true,\"nkey\":%q,\"sig\":%q}\r\nSUB _INBOX.> 1\r\n",
		public, base64.RawURLEncoding.EncodeToString(signature))
	must(t, err)
	return conn
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
