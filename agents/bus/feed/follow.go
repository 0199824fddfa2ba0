package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/reprise-run/reprise/agents/bus"
)

// Options adjust how a node follows its feed.
type Options struct {
	// Network asks for all Services and EndpointSlices: what a proxy needs.
	Network bool
	// Log may be nil.
	Log *slog.Logger
	// Every is how long after the last message the node asks whether it has missed
	// something, 15 seconds if zero. A gap shows at the next message anyway, so that
	// this is for the last message of many, and to have another server when the one that
	// feeds is gone. A node to which messages come asks seldom (decision 0374).
	Every time.Duration
}

// every is Options.Every if nobody says otherwise. A server forgets a node that does not ask
// for as long as forgotten.
const every = 15 * time.Second

// pending is how many messages may wait to be applied: if there are more, NATS
// drops some, and the node begins anew. Room for them is kept for as long as the node
// lives. They are a few for each of its pods, and, if it asks for the network, one for
// each change of any Service or EndpointSlice.
const (
	pending        = 1024
	pendingNetwork = 4096
)

// follower keeps a mirror up to date. Its state belongs to the goroutine of run.
type follower struct {
	nc     *nats.Conn
	node   bus.Node
	opts   Options
	mirror *Mirror
	in     chan *nats.Msg

	// current is also read by those who ask.
	current atomic.Pointer[subscription]
	answers chan progress // to those who wait until run has heard them
	told    chan progress // the newest that nobody waits for
	number  uint64        // the last message applied
	came    time.Time     // when that was
	parts   []message
}

// subscription is one snapshot and what follows it.
type subscription struct {
	epoch  string
	server string // whom to ask how far the feed is
}

// progress is what a server says about how far a subscription is.
type progress struct {
	of     *subscription
	answer answer
	err    error
}

// Follow keeps a mirror of what the node may know up to date until ctx ends or
// the connection is closed. It returns when the mirror has its first snapshot; as
// long as no server answers, it goes on asking.
func Follow(ctx context.Context, nc *nats.Conn, node bus.Node, opts Options) (*Mirror, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Every == 0 {
		opts.Every = every
	}
	room := pending
	if opts.Network {
		room = pendingNetwork
	}
	f := newFollower(nc, node, opts, room)
	sub, err := nc.ChanSubscribe(node.Feed(), f.in)
	if err != nil {
		return nil, fmt.Errorf("cannot subscribe to the node's feed: %w", err)
	}
	if err := f.begin(ctx); err != nil {
		// As below.
		_ = sub.Unsubscribe()
		return nil, err
	}
	go func() {
		f.run(ctx)
		f.mirror.end(errEnded)
		// It fails only if the connection is gone, and then nothing comes.
		_ = sub.Unsubscribe()
	}()
	return f.mirror, nil
}

func newFollower(nc *nats.Conn, node bus.Node, opts Options, room int) *follower {
	f := &follower{nc: nc, node: node, opts: opts, mirror: newMirror(), in: make(chan *nats.Msg, room), answers: make(chan progress), told: make(chan progress, 1)}
	f.mirror.ask, f.mirror.alive = f.check, f.alive
	return f
}

// begin asks for a snapshot until it is there.
func (f *follower) begin(ctx context.Context) error {
	pause := 100 * time.Millisecond
	for {
		err := f.snapshot(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("cannot begin the node's feed: %w (%w)", ctx.Err(), err)
		}
		if errors.Is(err, nats.ErrConnectionClosed) {
			return fmt.Errorf("cannot begin the node's feed: %w", err)
		}
		f.opts.Log.Debug("no server feeds this node; asking again", "in", pause, "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, 3*time.Second)
	}
}

// patience is how long a server may take to answer.
const patience = 10 * time.Second

func (f *follower) snapshot(ctx context.Context) error {
	sub := &subscription{epoch: nuid.Next()}
	f.current.Store(sub)
	f.number, f.parts = 0, nil
	f.discard()
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	answered := make(chan progress, 1)
	sequence := f.mirror.View().Sequence()
	go func() {
		a, err := f.ask(asking, f.node.Call("feed"), call{Epoch: sub.epoch, Sequence: sequence, Network: f.opts.Network})
		answered <- progress{sub, a, err}
	}()
	// The server sends the snapshot and then answers, so that it is taken meanwhile.
	var end uint64
	var late <-chan time.Time
	for late == nil || f.number < end {
		select {
		case m := <-f.in:
			if !f.take(m) {
				return errors.New("a message of the snapshot is lost")
			}
		case p := <-answered:
			if p.err != nil {
				return p.err
			}
			f.current.Store(&subscription{epoch: sub.epoch, server: p.answer.Server})
			end, late = p.answer.Number, time.After(patience)
		case <-late:
			return errors.New("the snapshot does not come")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// discard makes room for a snapshot: what waits is of the time before it was asked for.
func (f *follower) discard() {
	for {
		select {
		case <-f.in:
		default:
			return
		}
	}
}

func (f *follower) ask(ctx context.Context, subject string, c call) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m, err := f.nc.RequestWithContext(ctx, subject, encode(c))
	if err != nil {
		return answer{}, err
	}
	var a answer
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return answer{}, fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}

func (f *follower) run(ctx context.Context) {
	asked := time.Now() // Follow has just done so.
	due := time.NewTimer(f.opts.Every)
	defer due.Stop()
	connected, closed := f.nc.StatusChanged(nats.CONNECTED), f.nc.StatusChanged(nats.CLOSED)
	defer f.nc.RemoveStatusListener(connected)
	defer f.nc.RemoveStatusListener(closed)
	if f.nc.IsClosed() {
		return
	}
	for ctx.Err() == nil {
		whole := true
		select {
		case <-ctx.Done():
			return
		case <-closed:
			return
		case m := <-f.in:
			whole = f.take(m)
		case <-connected:
			whole = false
		case now := <-due.C:
			next := f.next(asked)
			if !next.After(now) {
				go f.check(ctx, 0)
				asked, next = now, now.Add(f.opts.Every)
			}
			due.Reset(time.Until(next))
		case p := <-f.answers:
			whole = f.heard(p)
		case p := <-f.told:
			if p.err == nil && p.of == f.current.Load() {
				asked = time.Now()
			}
			whole = f.heard(p)
		}
		if whole || ctx.Err() != nil {
			continue
		}
		f.opts.Log.Info("this node's feed has a gap; it begins anew")
		if f.begin(ctx) != nil {
			return
		}
	}
}

// next is when to ask, after having asked: some time after the last message, for a gap
// shows at the one that comes next, but so soon that the server does not forget the node.
func (f *follower) next(asked time.Time) time.Time {
	next, most := asked.Add(f.opts.Every), asked.Add(3*f.opts.Every)
	if quiet := f.came.Add(f.opts.Every); quiet.After(next) {
		next = quiet
	}
	if next.After(most) {
		return most
	}
	return next
}

// take applies a message, and says false if one before it is missing.
func (f *follower) take(m *nats.Msg) bool {
	msg, err := parse(m.Data)
	if err != nil {
		f.opts.Log.Error("a message of this node's feed cannot be read", "error", err)
		return false
	}
	if msg.Epoch != f.current.Load().epoch {
		return true
	}
	if msg.Number != f.number+1 {
		return false
	}
	f.number++
	f.came = time.Now()
	if f.parts = append(f.parts, msg); !msg.More {
		f.mirror.apply(f.parts)
		f.parts = nil
	}
	return true
}

// check asks the server how far the node should be, once that is at least at
// sequence, and has run hear the answer. It is called on any goroutine.
func (f *follower) check(ctx context.Context, sequence uint64) {
	of := f.current.Load()
	if of.server == "" {
		return
	}
	a, err := f.ask(ctx, f.node.Call("feed."+of.server), call{Epoch: of.epoch, Sequence: sequence})
	if err != nil && sequence > 0 {
		// It may just not have come that far.
		return
	}
	select {
	case f.answers <- progress{of, a, err}:
	case <-ctx.Done():
	}
}

var (
	errUnfed   = errors.New("no server feeds this node now")
	errUnheard = errors.New("the server that feeds this node does not hear whether it is there")
)

// alive is Mirror.Alive. It does not wait for run, which may have a feed to begin anew.
func (f *follower) alive(ctx context.Context) (renew bool, err error) {
	of := f.current.Load()
	if of.server == "" {
		return false, errUnfed
	}
	a, err := f.ask(ctx, f.node.Call("feed."+of.server), call{Epoch: of.epoch, Alive: true})
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	return f.answered(progress{of, a, err})
}

// answered takes what a server said to a node that is there. A server that only is slow is no
// reason to begin the feed anew: many snapshots would make it slower.
func (f *follower) answered(p progress) (renew bool, err error) {
	if !errors.Is(p.err, context.DeadlineExceeded) {
		f.tell(p)
	}
	switch {
	case p.answer.Heard:
		return p.answer.Renew, nil
	case p.err != nil:
		return false, p.err
	}
	return false, errUnheard
}

// tell has run take what a server said when it comes to it. Of several the newest counts: a
// gap shows in each answer after it.
func (f *follower) tell(p progress) {
	for {
		select {
		case f.told <- p:
			return
		default:
		}
		select {
		case <-f.told:
		default:
		}
	}
}

// heard says false if the node has missed something.
func (f *follower) heard(p progress) bool {
	if p.of != f.current.Load() {
		return true
	}
	if p.err != nil || p.answer.Unknown {
		return false
	}
	// What was sent before the answer has come before it.
	for f.number < p.answer.Number {
		select {
		case m := <-f.in:
			if !f.take(m) {
				return false
			}
			continue
		default:
		}
		return false
	}
	if f.number == p.answer.Number && f.parts == nil {
		f.mirror.reached(p.answer.Sequence)
	}
	return true
}
