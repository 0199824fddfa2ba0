package jetstream

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/reprise-run/reprise/events"
)

// flight is an append that is in the journal and on its way into the stream.
type flight struct {
	*redo
	root   string // of its subjects
	bytes  int
	told   chan error    // what its answer, or that of another, tells of it; holds one
	landed chan struct{} // closed when it is known how it went
	err    error         // known then; nil if the stream has it
}

// tell says how a flight went. What was told before counts.
func (f *flight) tell(err error) {
	select {
	case f.told <- err:
	default:
	}
}

// air is what is in flight, in order.
type air struct {
	mu          sync.Mutex
	flights     []*flight
	msgs, bytes int // what all have
}

// front is the oldest flight, nil if there is none, and what all have.
func (a *air) front() (f *flight, msgs, bytes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.flights) > 0 {
		f = a.flights[0]
	}
	return f, a.msgs, a.bytes
}

// with is the flight with an event, or nil.
func (a *air) with(sequence uint64) *flight {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.flights {
		if sequence > f.after && sequence <= f.last() {
			return f
		}
	}
	return nil
}

func (a *air) enter(f *flight) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flights = append(a.flights, f)
	a.msgs += len(f.batch)
	a.bytes += f.bytes
}

func (a *air) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.flights[0]
	a.msgs -= len(f.batch)
	a.bytes -= f.bytes
	a.flights[0] = nil
	a.flights = a.flights[1:]
}

// went tells how the flight went that ends at a sequence. If it is stored so is what flew
// before it, be it that no answer came: each message names the one before it. If it is not,
// or not known to be, what flies behind it fares no better, and need not be waited for.
func (a *air) went(last uint64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.IndexFunc(a.flights, func(f *flight) bool { return f.last() == last })
	if i < 0 {
		return
	}
	concerned := a.flights[:i+1]
	if err != nil {
		concerned = a.flights[i:]
	}
	for _, f := range concerned {
		f.tell(err)
	}
}

// answered takes the stream's answers to flights.
func (l *Log) answered(o *own, m *nats.Msg) {
	last, err := strconv.ParseUint(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:], 10, 64)
	if err != nil {
		return // it answers no flight
	}
	if len(m.Data) == 0 {
		err = fmt.Errorf("no server answers for stream %s: %w", l.name, events.ErrUncertain)
	} else {
		_, err = l.acknowledged(m.Data, last-1, 1)
	}
	o.air.went(last, err)
}

// No more messages, or bytes, than these wait for an answer, because JetStream drops what
// it cannot queue.
const (
	mostQueued      = 2000
	mostQueuedBytes = 16 << 20
)

// depart sends what is in the journal on its way, behind what is in flight. It does not
// fail: what cannot be sent is torn.
func (l *Log) depart(o *own, r *redo, bytes int) {
	f := &flight{redo: r, root: l.root, bytes: bytes, told: make(chan error, 1), landed: make(chan struct{})}
	o.air.enter(f)
	select {
	case o.runway <- f:
	default: // it is full of what is torn already
		f.tell(fmt.Errorf("stream %s takes nothing: %w", l.name, events.ErrUncertain))
	}
	o.server.background.Go(func() {
		err := l.arrive(o, f)
		l.doubt(err)
		f.err = err
		close(f.landed)
		if err != nil {
			l.retry(o)
		}
	})
}

// bytesOf is what the bodies of messages have.
func bytesOf(batch []events.Event) (n int) {
	for i := range batch {
		if n += len(batch[i].Data); len(batch[i].Note) > longNote {
			n += len(batch[i].Note)
		}
	}
	return n
}

// launch sends flights, in order, until the server is shut down.
func (o *own) launch() {
	to := newFrames(o.tap)
	for {
		select {
		case f := <-o.runway:
			if err := to.send(f, o.inbox); err != nil {
				f.tell(fmt.Errorf("cannot send %d events to stream %s: %w", len(f.batch), o.name, err))
			}
		case <-o.flights.Done():
			return
		}
	}
}

// connect opens the connection of all flights. Whoever appends may close his own.
func (l *Log) connect(ctx context.Context, o *own) (err error) {
	o.tap = &tap{Server: o.server}
	if o.nc, err = o.server.Connect(nats.InProcessServer(o.tap)); err != nil {
		return err
	}
	o.tap.nc = o.nc
	js, err := jetstream.New(o.nc)
	if err != nil {
		return err
	}
	if o.stream, err = js.Stream(ctx, o.name); err != nil {
		return err
	}
	o.inbox = o.nc.NewInbox() + "."
	if _, err = o.nc.Subscribe(o.inbox+"*", func(m *nats.Msg) { l.answered(o, m) }); err != nil {
		return err
	}
	o.runway = make(chan *flight, mostQueued)
	o.server.background.Go(o.launch)
	return nil
}

// through is a log as the connection of all flights reaches it.
func (o *own) through(l *Log) *Log {
	l = &Log{nc: o.nc, stream: o.stream, name: l.name, root: l.root, patient: l.patient, own: o}
	l.doubtful.Store(true) // it is there for what was not answered
	return l
}

// arrive waits until the stream has a flight.
func (l *Log) arrive(o *own, f *flight) error {
	patience := time.NewTimer(l.patient)
	defer patience.Stop()
	select {
	case err := <-f.told:
		if err != nil {
			return err
		}
		return o.follow()
	case <-patience.C:
		return fmt.Errorf("stream %s did not answer an append after sequence %d (is the disk of the log full?): %w", l.name, f.after, events.ErrUncertain)
	case <-o.flights.Done():
		return fmt.Errorf("the server is shut down: %w", events.ErrUncertain)
	}
}

// troubled says that something of the journal could not be stored.
func (o *own) troubled() bool {
	_ = o.land(expired)
	return o.torn != nil
}

// expired is over.
var expired = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// land waits until nothing is in flight. What could not be stored is torn then.
func (o *own) land(ctx context.Context) error {
	for {
		f, _, _ := o.air.front()
		if f == nil {
			return nil
		}
		if err := o.landFirst(ctx, f); err != nil {
			return err
		}
	}
}

// room waits until so many messages may be sent behind what is in flight.
func (o *own) room(ctx context.Context, msgs, bytes int) error {
	for {
		f, n, size := o.air.front()
		if f == nil || n+msgs <= mostQueued && size+bytes <= mostQueuedBytes {
			return nil
		}
		if err := o.landFirst(ctx, f); err != nil {
			return err
		}
	}
}

// landFirst waits for the oldest flight. If that has failed, so have those behind it, and
// all are torn.
func (o *own) landFirst(ctx context.Context, f *flight) error {
	select {
	case <-f.landed:
	default:
		select {
		case <-f.landed:
		case <-ctx.Done():
			return fmt.Errorf("%d events are in the journal, and not in stream %s yet: %w", len(f.batch), o.name, ctx.Err())
		}
	}
	if f.err == nil {
		o.air.leave()
		return nil
	}
	o.air.went(f.last(), f.err)
	torn := &redo{after: f.after}
	for ; f != nil; f, _, _ = o.air.front() {
		<-f.landed // at once
		torn.batch = append(torn.batch, f.batch...)
		o.air.leave()
	}
	if o.torn != nil {
		torn.batch = append(torn.batch, o.torn.batch...)
	}
	o.torn = torn
	return nil
}

// await waits until it is known how all went that is in flight, or ctx ends.
func (o *own) await(ctx context.Context) {
	o.air.mu.Lock()
	flights := slices.Clone(o.air.flights)
	o.air.mu.Unlock()
	for _, f := range flights {
		select {
		case <-f.landed:
		case <-ctx.Done():
			return
		}
	}
}

// reach waits until the stream has an event, if that was appended.
func (l *Log) reach(ctx context.Context, o *own, sequence uint64) error {
	if f := o.air.with(sequence); f != nil {
		select {
		case <-f.landed:
		case <-ctx.Done():
			return ctx.Err()
		}
		if f.err == nil {
			return nil
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	// It may have landed, or failed, since the stream was asked.
	if sequence > o.last || !o.troubled() && o.air.with(sequence) == nil {
		return nil
	}
	return l.finish(ctx, o)
}
