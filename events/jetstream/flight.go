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
	bytes  int
	answer chan *nats.Msg // the stream's, to the last message; holds one
	landed chan struct{}  // closed when it is known how it went
	err    error          // known then; nil if the stream has it
}

// air is what is in flight, in order.
type air struct {
	mu      sync.Mutex
	flights []*flight
}

// front is the oldest flight, nil if there is none, and what all have.
func (a *air) front() (f *flight, msgs, bytes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.flights {
		msgs += len(f.batch)
		bytes += f.bytes
	}
	if len(a.flights) > 0 {
		f = a.flights[0]
	}
	return f, msgs, bytes
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
}

func (a *air) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flights[0] = nil
	a.flights = a.flights[1:]
}

// answered takes the stream's answers to flights.
func (a *air) answered(m *nats.Msg) {
	last, err := strconv.ParseUint(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:], 10, 64)
	if err != nil {
		return
	}
	if f := a.with(last); f != nil && f.last() == last {
		select {
		case f.answer <- m:
		default: // one is enough
		}
	}
}

// No more messages, or bytes, than these wait for an answer, because JetStream drops what
// it cannot queue.
const (
	mostQueued      = 2000
	mostQueuedBytes = 16 << 20
)

// depart sends what is in the journal on its way, behind what is in flight. It does not
// fail: what cannot be sent is torn.
func (l *Log) depart(o *own, r *redo, msgs []*nats.Msg) {
	f := &flight{redo: r, bytes: bytesOf(msgs), answer: make(chan *nats.Msg, 1), landed: make(chan struct{})}
	o.air.enter(f)
	err := o.launch(f, msgs)
	o.server.background.Go(func() {
		if err == nil {
			err = l.arrive(o, f)
		}
		l.doubt(err)
		f.err = err
		close(f.landed)
		if err != nil {
			l.retry(o)
		}
	})
}

func bytesOf(msgs []*nats.Msg) (n int) {
	for _, m := range msgs {
		n += len(m.Data)
	}
	return n
}

// launch sends the messages of a flight, through the one connection of all flights, so that
// they come in order.
func (o *own) launch(f *flight, msgs []*nats.Msg) error {
	msgs[len(msgs)-1].Reply = o.inbox + strconv.FormatUint(f.last(), 10)
	for _, m := range msgs {
		if err := o.nc.PublishMsg(m); err != nil {
			return fmt.Errorf("cannot send %d events to stream %s: %w", len(msgs), o.name, err)
		}
	}
	return nil
}

// connect opens the connection of all flights. Whoever appends may close his own.
func (o *own) connect(ctx context.Context) (err error) {
	if o.nc, err = o.server.Connect(); err != nil {
		return err
	}
	js, err := jetstream.New(o.nc)
	if err != nil {
		return err
	}
	if o.stream, err = js.Stream(ctx, o.name); err != nil {
		return err
	}
	o.inbox = o.nc.NewInbox() + "."
	_, err = o.nc.Subscribe(o.inbox+"*", o.air.answered)
	return err
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
	case m := <-f.answer:
		if len(m.Data) == 0 {
			return fmt.Errorf("no server answers for stream %s: %w", l.name, events.ErrUncertain)
		}
		if _, err := l.acknowledged(m.Data, f.last()-1, 1); err != nil {
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

// room waits until some messages may be sent behind what is in flight.
func (o *own) room(ctx context.Context, msgs []*nats.Msg) error {
	more, bytes := len(msgs), bytesOf(msgs)
	for {
		f, n, size := o.air.front()
		if f == nil || n+more <= mostQueued && size+bytes <= mostQueuedBytes {
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
	behind := o.torn
	o.torn = nil
	for f, _, _ := o.air.front(); f != nil; f, _, _ = o.air.front() {
		<-f.landed // soon: each has its patience
		o.tear(f.redo)
		o.air.leave()
	}
	if behind != nil {
		o.tear(behind)
	}
	return nil
}

// settle waits until it is known how all went that is in flight, or ctx ends.
func (o *own) settle(ctx context.Context) {
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
