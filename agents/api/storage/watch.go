package storage

import (
	"context"
	"errors"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// watch passes the changes within its scope to who wants them.
type watch struct {
	stream *stream
	scope  events.Ref
	next   uint64 // sequence of the first change that is still wanted; 0: from now on
	member *member
	to     receiver
	first  func(context.Context) error // passes on what comes before all changes; may be nil
	cancel context.CancelFunc
}

// receiver is who watches.
type receiver interface {
	// change takes a change, and may keep it until flush.
	change(ctx context.Context, c projections.Change) error
	flush(ctx context.Context) error
	// progress takes note that there is no other change up to a sequence.
	progress(ctx context.Context, sequence uint64) error
	// fail hears why nothing more will come: live.ErrTooOld if what is wanted is no
	// longer to be had, as of a sequence.
	fail(ctx context.Context, cause error, now uint64)
	// end is the last that it hears.
	end()
}

// run passes changes on until the context ends, or until what is wanted is no
// longer to be had: then the last that is heard says so.
func (w *watch) run(ctx context.Context) {
	defer w.to.end()
	defer w.stream.hub.leave(w.member)
	err := w.follow(ctx)
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, errEnded):
		// Whoever watches would only try again until it is stopped too.
		<-ctx.Done()
	default:
		w.to.fail(ctx, err, w.stream.Projection.View().Sequence())
	}
}

func (w *watch) follow(ctx context.Context) error {
	if first := w.first; first != nil {
		w.first = nil // It has a view, which would live as long as the watch.
		if err := first(ctx); err != nil {
			return err
		}
	}
	for {
		joined, err := w.stream.hub.join(w.member)
		if err != nil {
			return err
		}
		if w.next == 0 {
			w.next = joined + 1
		}
		if err := w.catchUp(ctx, joined); err != nil {
			return err
		}
		if err := w.stay(ctx); err != nil {
			return err
		}
	}
}

// catchUp passes on what happened up to the moment of joining.
func (w *watch) catchUp(ctx context.Context, joined uint64) error {
	if w.next > joined {
		return nil
	}
	if w.next <= w.stream.floor.Load() {
		return live.ErrTooOld
	}
	changes, err := w.stream.Projection.Changes(ctx, w.next-1)
	if err != nil {
		return err
	}
	for w.next <= joined {
		batch, err := changes.Next(ctx)
		if err != nil {
			return err
		}
		items := make([]item, 0, len(batch))
		batch = lasting(batch)
		for _, c := range batch {
			if c.Event.Sequence <= joined {
				items = append(items, item{change: c})
			}
		}
		if err := w.pass(ctx, items); err != nil {
			return err
		}
		if len(items) < len(batch) {
			// The rest comes, or has come, by the hub.
			w.next = joined + 1
		}
	}
	return nil
}

// lasting is the changes, which hold decisions whole, without what lies within a
// decision: several facts that it tells of an object make one change of it. No
// reader ever finds the object as it was between them.
func lasting(changes []projections.Change) []projections.Change {
	more := func(c projections.Change) bool { return c.Event.More }
	if !slices.ContainsFunc(changes, more) {
		return changes
	}
	out := make([]projections.Change, 0, len(changes))
	last := map[events.Ref]int{} // where in out this decision changed an object last
	for _, c := range changes {
		if i, ok := last[c.Event.Object]; ok && out[i].Before != nil && c.Before != nil && c.After != nil && c.Before == out[i].After {
			c.Before = out[i].Before
			out[i] = projections.Change{}
		}
		last[c.Event.Object] = len(out)
		out = append(out, c)
		if !c.Event.More {
			clear(last)
		}
	}
	return slices.DeleteFunc(out, func(c projections.Change) bool { return c.Event == nil })
}

// stay passes on what the hub delivers until it says that some was lost.
func (w *watch) stay(ctx context.Context) error {
	for {
		items, lost, err := w.stream.hub.take(ctx, w.member)
		if err != nil {
			return err
		}
		if err := w.pass(ctx, items); err != nil {
			return err
		}
		if lost {
			return nil
		}
	}
}

// pass passes items on.
func (w *watch) pass(ctx context.Context, items []item) error {
	for _, i := range items {
		if i.change.Event == nil {
			if i.progress+1 < w.next {
				continue
			}
			if err := w.to.progress(ctx, i.progress); err != nil {
				return err
			}
			continue
		}
		sequence := i.change.Event.Sequence
		if sequence < w.next {
			continue
		}
		w.next = sequence + 1
		if !within(w.scope, i.change.Event.Object) {
			continue
		}
		if err := w.to.change(ctx, i.change); err != nil {
			return err
		}
	}
	return w.to.flush(ctx)
}

// etcdReceiver tells an etcd client, all changes between two notes of progress in one
// response.
type etcdReceiver struct {
	stream   *stream
	keys     *Keys
	out      chan<- clientv3.WatchResponse
	response clientv3.WatchResponse
}

func (r *etcdReceiver) change(ctx context.Context, c projections.Change) error {
	e, err := r.event(ctx, c)
	if err != nil {
		return err
	}
	r.response.Header = header(c.Event.Sequence)
	r.response.Events = append(r.response.Events, e)
	return nil
}

func (r *etcdReceiver) flush(ctx context.Context) error {
	if len(r.response.Events) == 0 {
		return nil
	}
	response := r.response
	r.response = clientv3.WatchResponse{}
	return r.send(ctx, response)
}

func (r *etcdReceiver) progress(ctx context.Context, sequence uint64) error {
	if err := r.flush(ctx); err != nil {
		return err
	}
	return r.send(ctx, clientv3.WatchResponse{Header: header(sequence)})
}

func (r *etcdReceiver) fail(ctx context.Context, cause error, now uint64) {
	response := clientv3.WatchResponse{Canceled: true, CancelReason: cause.Error()}
	if errors.Is(cause, live.ErrTooOld) {
		response = clientv3.WatchResponse{Canceled: true, CompactRevision: int64(now)}
	}
	_ = r.send(ctx, response) // It fails only when nobody listens.
}

func (r *etcdReceiver) end() { close(r.out) }

func (r *etcdReceiver) event(ctx context.Context, c projections.Change) (*clientv3.Event, error) {
	key := []byte(r.keys.Key(c.Event.Object))
	e := &clientv3.Event{Type: mvccpb.PUT}
	var err error
	if c.Before != nil {
		if e.PrevKv, err = r.stream.reveal(ctx, key, c.Before); err != nil {
			return nil, err
		}
	}
	if c.After == nil {
		e.Type = mvccpb.DELETE
		e.Kv = &mvccpb.KeyValue{Key: key, ModRevision: int64(c.Event.Sequence)}
		return e, nil
	}
	e.Kv, err = r.stream.reveal(ctx, key, c.After)
	return e, err
}

func (r *etcdReceiver) send(ctx context.Context, response clientv3.WatchResponse) error {
	select {
	case r.out <- response:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// KeyValue is an entry as etcd has it. Its Version only tells a first version
// from a later one.
func KeyValue(key []byte, e *projections.Entry) (*mvccpb.KeyValue, error) {
	return keyValue(key, e, e.Raw)
}

// keyValue is an entry whose document is doc.
func keyValue(key []byte, e *projections.Entry, doc []byte) (*mvccpb.KeyValue, error) {
	value, err := fromLog(doc)
	if err != nil {
		return nil, err
	}
	kv := &mvccpb.KeyValue{
		Key: key, Value: value, Version: 1,
		CreateRevision: int64(e.Created), ModRevision: int64(e.Sequence),
	}
	if e.Sequence != e.Created {
		kv.Version = 2
	}
	return kv, nil
}

func header(revision uint64) *pb.ResponseHeader {
	return &pb.ResponseHeader{Revision: int64(revision)}
}
