package jetstream

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/reprise-run/reprise/events"
)

// What a subscriber may have under way at a time. All of it is memory of the
// server when the subscriber stops reading from its connection.
const (
	mostUnacknowledged = 1000
	mostRequests       = 8
	mostInRequest      = 500
	mostBytesInRequest = 4 << 20
	longestRequest     = time.Minute
	ackWait            = 30 * time.Second
)

// Subscribers are events.Subscribers on an embedded server.
//
// Each subscriber has a durable consumer, made here, of the history's stream, and
// a NATS account of its own, into which three subjects are let: to ask for the
// next events of that consumer, to acknowledge them, and to ask how it stands. So
// it can make no consumer and change none; it hears nothing that is said to
// others, and since an answer goes to the account of the one who asks, it cannot
// have one stored in the log by naming a subject of the log for it.
type Subscribers struct {
	server  *Server
	nc      *nats.Conn
	js      jetstream.JetStream
	stream  string
	prefix  string
	records jetstream.KeyValue
	places  *positions
	log     *slog.Logger
	stop    func()

	mu       sync.Mutex
	admitted map[string]bool // whose consumers are there
}

var _ events.Subscribers = (*Subscribers)(nil)

// OpenSubscribers opens the subscribers of the history, which must be there, and
// lets those that were added before connect. What is wrong with one of them is told
// to the log and does not concern the others. Until Close, positions are kept.
func OpenSubscribers(ctx context.Context, on *Server, nc *nats.Conn, cfg Config, log *slog.Logger) (*Subscribers, error) {
	js, cfg, err := cfg.on(nc)
	if err != nil {
		return nil, err
	}
	s := &Subscribers{server: on, nc: nc, js: js, stream: streamName(cfg.Prefix), prefix: cfg.Prefix, log: log, admitted: map[string]bool{}}
	s.records, err = js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: cfg.Prefix + "-subscribers", Description: "Who may read the history from outside.",
		Storage: jetstream.FileStorage, Replicas: cfg.Replicas, History: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot open the subscribers: %w", err)
	}
	if s.places, err = openPositions(ctx, js, cfg); err != nil {
		return nil, err
	}
	all, err := s.all(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.Removed {
			if err := s.finish(ctx, r); err != nil {
				log.Warn("something is left of a subscriber that was removed", "subscriber", r.Name, "why", err)
			}
			continue
		}
		if err := s.admit(ctx, r); err != nil {
			log.Warn("a subscriber cannot read", "subscriber", r.Name, "why", err)
		}
	}
	s.start()
	return s, nil
}

// start keeps positions until stop is called, which keeps them for the last time.
func (s *Subscribers) start() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(keepEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.keep(ctx)
			case <-ctx.Done():
				last, done := context.WithTimeout(context.Background(), 5*time.Second)
				defer done()
				s.keep(last)
				return
			}
		}
	}()
	s.stop = sync.OnceFunc(func() { cancel(); <-ended })
}

// rewind sets a subscriber that comes back to the first event that it has not
// acknowledged. Otherwise it would be sent the newer ones first, and those that it
// had in hand when it went away when their time is up.
func (s *Subscribers) rewind(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	answer, err := s.nc.RequestWithContext(ctx, "$JS.API.CONSUMER.RESET."+s.stream+"."+name, nil)
	if err == nil && bytes.Contains(answer.Data, []byte(`"error"`)) {
		err = errors.New(string(answer.Data))
	}
	if err != nil {
		s.log.Warn("a subscriber may be sent newer events before those that it has not acknowledged", "subscriber", name, "why", err)
	}
}

// Close keeps the positions as they are now. It must be called before the server
// is shut down; after a crash up to a second's events are sent again.
func (s *Subscribers) Close() { s.stop() }

func (s *Subscribers) keep(ctx context.Context) {
	s.mu.Lock()
	admitted := maps.Clone(s.admitted)
	s.mu.Unlock()
	if len(admitted) == 0 {
		return
	}
	if err := s.places.keep(ctx, admitted); err != nil && ctx.Err() == nil {
		s.log.Warn("subscribers would be sent again what they have acknowledged", "why", err)
	}
}

// record is what is kept of a subscriber.
type record struct {
	events.Subscriber
	// Account is new for each subscriber, also for one that has the name of an
	// earlier one.
	Account string
	// Removed says that it is on its way out: what there still is of it is taken away
	// at the next call or start, and nobody is let in.
	Removed bool `json:",omitempty"`
}

// Add is events.Subscribers's.
func (s *Subscribers) Add(ctx context.Context, sub events.Subscriber) error {
	if err := checkSubscriber(sub); err != nil {
		return err
	}
	if by := s.server.holder(sub.Key); sub.Key != "" && by != "" && by != sub.Name {
		return fmt.Errorf("the key of the subscriber %s is that of %s: make another", sub.Name, by)
	}
	r := record{Subscriber: sub, Account: "subscriber-" + sub.Name + "-" + nuid.Next()}
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = s.records.Create(ctx, sub.Name, raw)
	if errors.Is(err, jetstream.ErrKeyExists) {
		if old, getErr := s.get(ctx, sub.Name); getErr == nil && old.Removed {
			if err := s.finish(ctx, old); err != nil {
				return err
			}
			_, err = s.records.Create(ctx, sub.Name, raw)
		}
	}
	if errors.Is(err, jetstream.ErrKeyExists) {
		return fmt.Errorf("%s: %w", sub.Name, events.ErrSubscriberExists)
	}
	if err != nil {
		return fmt.Errorf("cannot keep the subscriber %s: %w", sub.Name, err)
	}
	if err := confirmSync(s.nc, s.records.Bucket()); err != nil {
		return err
	}
	if err := s.admit(ctx, r); err != nil {
		return errors.Join(err, s.records.Purge(ctx, sub.Name))
	}
	return nil
}

func checkSubscriber(sub events.Subscriber) error {
	if sub.Name == "" || len(sub.Name) > 63 || !plain(sub.Name) || strings.HasPrefix(sub.Name, "-") {
		return fmt.Errorf("%q cannot name a subscriber: use lower case letters, digits and '-', 63 at most", sub.Name)
	}
	if len(sub.Filters) == 0 {
		return fmt.Errorf("subscriber %s may read nothing: give it a filter", sub.Name)
	}
	if (sub.Key == "") == (sub.Password == "") {
		return fmt.Errorf("subscriber %s needs either a key or a password", sub.Name)
	}
	return nil
}

// admit makes the consumer if it is not there, and lets the subscriber connect.
func (s *Subscribers) admit(ctx context.Context, r record) error {
	_, err := s.js.Consumer(ctx, s.stream, r.Name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		r.After = max(r.After, s.places.of(r.Name).Done)
		_, err = s.js.CreateConsumer(ctx, s.stream, s.consumer(r.Subscriber))
	}
	if err != nil {
		return fmt.Errorf("cannot make the consumer of subscriber %s: %w", r.Name, err)
	}
	own := []string{
		"$JS.API.CONSUMER.MSG.NEXT." + s.stream + "." + r.Name,
		"$JS.API.CONSUMER.INFO." + s.stream + "." + r.Name,
		"$JS.ACK." + s.stream + "." + r.Name + ".>",
	}
	connections := mostConnections
	if r.InOrder {
		connections = 1
	}
	account, err := s.server.account(r.Account, own, connections)
	if err != nil {
		return fmt.Errorf("cannot let subscriber %s in: %w", r.Name, err)
	}
	begin := func() { s.rewind(r.Name) }
	if r.InOrder {
		begin = func() {
			// What was sent to the other connection it is sent again, on this one.
			if err := s.server.disconnect(r.Account); err != nil {
				s.log.Warn("an earlier connection of a subscriber stays", "subscriber", r.Name, "why", err)
			}
			s.rewind(r.Name)
		}
	}
	s.server.admit(login{name: r.Name, key: r.Key, password: r.Password, alone: r.InOrder, begin: begin}, &server.User{
		Username: r.Name, Account: account, Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: own},
			Subscribe: &server.SubjectPermission{Allow: []string{nats.InboxPrefix + ">"}},
		},
	})
	s.mu.Lock()
	s.admitted[r.Name] = true
	s.mu.Unlock()
	return nil
}

func (s *Subscribers) consumer(sub events.Subscriber) jetstream.ConsumerConfig {
	c := jetstream.ConsumerConfig{
		Durable: sub.Name, Description: "Subscriber " + sub.Name + ".",
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait,
		MaxAckPending: mostUnacknowledged, MaxWaiting: mostRequests, MaxRequestBatch: mostInRequest,
		MaxRequestMaxBytes: mostBytesInRequest, MaxRequestExpires: longestRequest,
		MemoryStorage: true, // See positions.
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: sub.After + 1,
	}
	if sub.InOrder {
		c.AckPolicy = jetstream.AckAllPolicy
	}
	var all []string
	for _, f := range sub.Filters {
		all = append(all, filterSubject(s.prefix, f))
	}
	slices.Sort(all)
	for _, narrow := range slices.Compact(all) {
		// JetStream refuses a filter that another one covers.
		if !slices.ContainsFunc(all, func(wide string) bool { return wide != narrow && covers(wide, narrow) }) {
			c.FilterSubjects = append(c.FilterSubjects, narrow)
		}
	}
	return c
}

// covers says whether every subject that narrow matches is one that wide does.
func covers(wide, narrow string) bool {
	w, n := strings.Split(wide, "."), strings.Split(narrow, ".")
	for i := range w {
		if w[i] != "*" && w[i] != n[i] {
			return false
		}
	}
	return true
}

// Remove is events.Subscribers's. That it is to go is durable before anything of it
// goes, so that a removal which is cut short is none of a part.
func (s *Subscribers) Remove(ctx context.Context, name string) error {
	r, err := s.doom(ctx, name)
	if err != nil {
		return err
	}
	return s.finish(ctx, r)
}

// doom writes down that a subscriber is to go.
func (s *Subscribers) doom(ctx context.Context, name string) (record, error) {
	r, err := s.get(ctx, name)
	if err != nil || r.Removed {
		return r, err
	}
	r.Removed = true
	raw, err := json.Marshal(r)
	if err == nil {
		_, err = s.records.Put(ctx, name, raw)
	}
	if err == nil {
		err = confirmSync(s.nc, s.records.Bucket())
	}
	if err != nil {
		return r, fmt.Errorf("cannot remove subscriber %s: %w", name, err)
	}
	return r, nil
}

// finish takes away what there is of a subscriber that was removed, its record last.
func (s *Subscribers) finish(ctx context.Context, r record) error {
	name := r.Name
	s.server.expel(name)
	if err := s.server.disconnect(r.Account); err != nil {
		return fmt.Errorf("cannot end the connections of subscriber %s: %w", name, err)
	}
	s.mu.Lock()
	delete(s.admitted, name)
	s.mu.Unlock()
	if err := s.js.DeleteConsumer(ctx, s.stream, name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("cannot remove the consumer of subscriber %s: %w", name, err)
	}
	if err := s.places.forget(ctx, name); err != nil {
		return err
	}
	if err := s.records.Purge(ctx, name); err != nil {
		return fmt.Errorf("cannot forget subscriber %s: %w", name, err)
	}
	return nil
}

func (s *Subscribers) get(ctx context.Context, name string) (record, error) {
	var r record
	entry, err := s.records.Get(ctx, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrInvalidKey) {
		return r, fmt.Errorf("%s: %w", name, events.ErrNoSubscriber)
	}
	if err != nil {
		return r, fmt.Errorf("cannot look up subscriber %s: %w", name, err)
	}
	if err := json.Unmarshal(entry.Value(), &r); err != nil {
		return r, fmt.Errorf("the record of subscriber %s cannot be read: %w", name, err)
	}
	return r, nil
}

func (s *Subscribers) all(ctx context.Context) ([]record, error) {
	keys, err := s.records.Keys(ctx)
	if errors.Is(err, jetstream.ErrNoKeysFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the subscribers: %w", err)
	}
	slices.Sort(keys)
	var all []record
	for _, name := range keys {
		r, err := s.get(ctx, name)
		if err != nil && !errors.Is(err, events.ErrNoSubscriber) {
			return nil, err
		}
		if err == nil {
			all = append(all, r)
		}
	}
	return all, nil
}

// List is events.Subscribers's.
func (s *Subscribers) List(ctx context.Context) ([]events.SubscriberStatus, error) {
	all, err := s.all(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]events.SubscriberStatus, 0, len(all))
	for _, r := range all {
		if r.Removed {
			continue
		}
		st := events.SubscriberStatus{Subscriber: r.Subscriber}
		c, err := s.js.Consumer(ctx, s.stream, r.Name)
		if err != nil {
			return nil, fmt.Errorf("cannot ask how far subscriber %s is: %w", r.Name, err)
		}
		info, kept := c.CachedInfo(), s.places.of(r.Name)
		at := placeOf(info)
		st.Done, st.Delivered = max(at.Done, kept.Done, r.After), max(info.Delivered.Stream, kept.Done, r.After)
		st.Unacknowledged, st.Pending = uint64(info.NumAckPending), info.NumPending
		if st.Seen = at.Seen; st.Seen.IsZero() {
			st.Seen = kept.Seen
		}
		connections, err := s.server.connections(r.Account)
		if err != nil {
			return nil, err
		}
		st.Connected = len(connections)
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b events.SubscriberStatus) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}
