// Package delivery sends events to a receiver elsewhere, each at least once, and
// those of one object in order. What to do when is decided by agents/delivery/plan;
// here it is done: events are read from a Source, sent by a Sender, and the
// position is kept where it outlives the process.
//
// What must be durable before what: an event counts as done after the receiver
// has accepted it or its dead letter is kept; the position that says so is kept
// after that, several times a second. So a crash sends a few events again, and
// loses none.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"time"

	"github.com/reprise-run/reprise/agents/delivery/plan"
	"github.com/reprise-run/reprise/events"
)

// Source is where the events come from.
type Source interface {
	// Event returns one.
	Event(ctx context.Context, sequence uint64) (events.Event, error)
	// Follow yields those to be delivered from a sequence on, and those to come,
	// until ctx ends.
	Follow(ctx context.Context, from uint64) iter.Seq2[events.Event, error]
}

// Sender sends one event and says what became of it.
type Sender interface {
	Send(ctx context.Context, e *events.Event) plan.Outcome
	// Target is where it sends to, for people.
	Target() string
}

// Options describe a delivery.
type Options struct {
	Name       string
	Source     Source
	Sender     Sender
	Deliveries events.Deliveries
	Plan       plan.Options
	// Begin is where a delivery that has no position yet begins.
	Begin events.DeliveryPosition
	Log   *slog.Logger
	// Claimed is called with the position at which the delivery goes on.
	Claimed func(at events.DeliveryPosition, known bool)
}

// saveEvery is how long the position may lag behind what was done.
const saveEvery = 200 * time.Millisecond

// retrySource is how long to wait before the source is asked again after an error.
const retrySource = time.Second

// delivery is one run. Its loop owns all but the channels.
type delivery struct {
	Options
	plan  *plan.Plan
	held  map[uint64]events.Event
	dirty bool
	busy  int // actions under way
	read  chan events.Event
	news  chan func() // what became of an action, to be told to the plan
}

// Run delivers until ctx ends, or until somebody else delivers under the name.
func Run(ctx context.Context, o Options) error {
	at, known, err := o.Deliveries.Claim(ctx, o.Name, o.Begin)
	if err != nil {
		return err
	}
	if o.Claimed != nil {
		o.Claimed(at, known)
	}
	d := &delivery{
		Options: o, plan: plan.New(o.Plan, at), held: map[uint64]events.Event{},
		read: make(chan events.Event), news: make(chan func(), o.Plan.Window),
	}
	for _, sequence := range at.Open {
		e, err := o.Source.Event(ctx, sequence)
		if err != nil {
			return fmt.Errorf("event %d was not delivered yet and cannot be read: %w", sequence, err)
		}
		d.take(e)
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	go d.follow(reading, at.Read+1)
	// What is under way when ctx ends may come to its end.
	acting, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	if err := d.loop(ctx, acting); ctx.Err() == nil {
		return err
	}
	return errors.Join(d.finish(acting, abandon), ctx.Err())
}

// lastWord is how long the end of a delivery waits for the receiver's answers, and
// then for the log.
const lastWord = 3 * time.Second

// finish hears out what is under way and keeps the position, so that what was
// done last is not done again.
func (d *delivery) finish(ctx context.Context, abandon func()) error {
	late := time.AfterFunc(lastWord, abandon)
	defer late.Stop()
	for d.busy > 0 {
		(<-d.news)()
	}
	saving, done := context.WithTimeout(context.WithoutCancel(ctx), lastWord)
	defer done()
	if err := d.save(saving); err != nil && !errors.Is(err, events.ErrClaimed) {
		return err
	}
	return nil
}

// follow reads the source for the loop, and again where it stopped after an error.
func (d *delivery) follow(ctx context.Context, from uint64) {
	for ctx.Err() == nil {
		for e, err := range d.Source.Follow(ctx, from) {
			if err != nil {
				d.Log.Warn("cannot read events; trying again", "why", err)
				break
			}
			select {
			case d.read <- e:
				from = e.Sequence + 1
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-time.After(retrySource):
		case <-ctx.Done():
		}
	}
}

// loop does what the plan says and tells it what came of that.
func (d *delivery) loop(ctx, acting context.Context) error {
	save := time.NewTicker(saveEvery)
	defer save.Stop()
	wake := time.NewTimer(0)
	defer wake.Stop()
	for {
		do, at := d.plan.Next(time.Now())
		for _, a := range do {
			d.start(acting, a)
		}
		wake.Stop()
		if !at.IsZero() {
			wake.Reset(time.Until(at))
		}
		read := d.read
		if d.plan.Room() == 0 {
			read = nil
		}
		select {
		case e := <-read:
			d.take(e)
		case told := <-d.news:
			told()
		case <-wake.C:
		case <-save.C:
			if err := d.save(ctx); errors.Is(err, events.ErrClaimed) {
				return err
			} else if err != nil {
				d.Log.Warn("cannot keep the position; what is delivered meanwhile may be delivered again", "why", err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d *delivery) take(e events.Event) {
	d.plan.Take(e.Sequence, e.Object)
	d.held[e.Sequence] = e
	d.dirty = true
}

func (d *delivery) save(ctx context.Context) error {
	if !d.dirty {
		return nil
	}
	d.forget()
	err := d.Deliveries.Save(ctx, d.Name, d.plan.Position())
	d.dirty = err != nil
	return err
}

// forget lets go of the events that are done.
func (d *delivery) forget() {
	open := d.plan.Position().Open
	for sequence := range d.held {
		if _, held := slices.BinarySearch(open, sequence); !held {
			delete(d.held, sequence)
		}
	}
}

// start begins an action; the loop hears of its end.
func (d *delivery) start(ctx context.Context, a plan.Action) {
	e := d.held[a.Sequence]
	d.busy++
	if a.Bury {
		go d.bury(ctx, a, e)
		return
	}
	go func() {
		o := d.Sender.Send(ctx, &e)
		d.news <- func() {
			d.busy--
			// What the end of this run has cut short says nothing about the receiver.
			if o.Verdict != plan.Accepted {
				if ctx.Err() != nil {
					return
				}
				d.Log.Info("the receiver did not take an event", "event", e.Headline(), "attempt", a.Attempt, "why", o.Reason)
			}
			d.plan.Answered(time.Now(), a.Sequence, o)
			d.dirty = true
		}
	}()
}

func (d *delivery) bury(ctx context.Context, a plan.Action, e events.Event) {
	now := time.Now()
	err := d.Deliveries.Bury(ctx, events.DeadLetter{
		Event: e, Delivery: d.Name, Target: d.Sender.Target(), Reason: a.Reason, Attempts: a.Attempt, Since: a.Since, At: now,
	})
	if err != nil {
		select {
		case <-time.After(retrySource):
		case <-ctx.Done():
		}
	}
	d.news <- func() {
		d.busy--
		if err != nil {
			d.Log.Warn("cannot keep a dead letter; trying again", "event", e.Headline(), "why", err)
			d.plan.NotBuried(a.Sequence)
			return
		}
		d.Log.Warn("an event is a dead letter; later ones of its object go on without it", "event", e.Headline(), "attempts", a.Attempt, "why", a.Reason)
		d.plan.Buried(a.Sequence)
		d.dirty = true
	}
}
