package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/reprise-run/reprise/events"
)

// leaseTTL is how long a lease outlives its last renewal: how long a failover
// takes at most after a crash. It is what Kubernetes gives those who lead. A third
// of it was lost again and again by the one server of a machine with ten times the
// work that it can do, which then refused all writes until it had the lease back.
const leaseTTL = 15 * time.Second

// lease is a key of a bucket whose keys age away. The bucket is in memory: a
// server that starts anew need not wait for the lease of its own former life.
type lease struct {
	js     jetstream.JetStream
	bucket jetstream.KeyValueConfig
	name   string
	// value tells this holder apart from all others, its own later lives included.
	value    string
	holder   string
	revision uint64
}

var _ events.Lease = (*lease)(nil)

// NewLease returns a lease of that name, to be held by holder, in the bucket
// <prefix>-leases.
func NewLease(nc *nats.Conn, cfg Config, name, holder string) (events.Lease, error) {
	return newLease(nc, cfg, name, holder, leaseTTL)
}

func newLease(nc *nats.Conn, cfg Config, name, holder string, ttl time.Duration) (events.Lease, error) {
	js, cfg, err := cfg.on(nc)
	if err != nil {
		return nil, err
	}
	return &lease{
		js: js, name: name, holder: holder, value: nuid.Next() + " " + holder,
		bucket: jetstream.KeyValueConfig{
			Bucket: cfg.Prefix + "-leases", Description: "Who is the committer, and who runs each controller.",
			TTL: ttl, LimitMarkerTTL: max(ttl, time.Second), Storage: jetstream.MemoryStorage, Replicas: cfg.Replicas,
		},
	}, nil
}

// TTL is events.Lease's.
func (l *lease) TTL() time.Duration { return l.bucket.TTL }

// open returns the bucket, made anew if the server that had it is gone.
func (l *lease) open(ctx context.Context) (jetstream.KeyValue, error) {
	kv, err := l.js.KeyValue(ctx, l.bucket.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = l.js.CreateOrUpdateKeyValue(ctx, l.bucket)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open the leases: %w", err)
	}
	return kv, nil
}

// Acquire is events.Lease's.
func (l *lease) Acquire(ctx context.Context) error {
	for {
		kv, err := l.open(ctx)
		if err != nil {
			return err
		}
		revision, err := kv.Create(ctx, l.name, []byte(l.value))
		if err == nil {
			l.revision = revision
			return nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return fmt.Errorf("cannot acquire lease %s: %w", l.name, err)
		}
		// Ours is one that was acquired when the answer was lost.
		if held, err := kv.Get(ctx, l.name); err == nil && string(held.Value()) == l.value {
			l.revision = held.Revision()
			return l.Renew(ctx)
		}
		if err := l.awaitFree(ctx, kv); err != nil {
			return err
		}
	}
}

// awaitFree returns when the lease was given up or ran out, and otherwise after
// its TTL, in case word of that was lost.
func (l *lease) awaitFree(ctx context.Context, kv jetstream.KeyValue) error {
	watcher, err := kv.Watch(ctx, l.name)
	if err != nil {
		return fmt.Errorf("cannot watch lease %s: %w", l.name, err)
	}
	// A watch that cannot be stopped has ended.
	defer func() { _ = watcher.Stop() }()
	timer := time.NewTimer(l.TTL())
	defer timer.Stop()
	held := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case entry, ok := <-watcher.Updates():
			switch {
			case !ok:
				return nil
			case entry != nil:
				held = entry.Operation() == jetstream.KeyValuePut
			}
			// The nil entry says that all there was has come.
			if !held {
				return nil
			}
		}
	}
}

// Renew is events.Lease's.
func (l *lease) Renew(ctx context.Context) error {
	if l.revision == 0 {
		return events.ErrLeaseLost
	}
	kv, err := l.open(ctx)
	if err != nil {
		return err
	}
	for range 2 {
		revision, err := kv.Update(ctx, l.name, []byte(l.value), l.revision)
		if err == nil {
			l.revision = revision
			return nil
		}
		if !wrongRevision(err) {
			return fmt.Errorf("cannot renew lease %s: %w", l.name, err)
		}
		// A renewal whose answer was lost has moved the revision on.
		held, err := kv.Get(ctx, l.name)
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound):
			return events.ErrLeaseLost
		case err != nil:
			return fmt.Errorf("cannot renew lease %s: %w", l.name, err)
		case string(held.Value()) != l.value:
			return events.ErrLeaseLost
		}
		l.revision = held.Revision()
	}
	return events.ErrLeaseLost
}

func wrongRevision(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == codeWrongLast || api.ErrorCode == codeWrongLastReplicated)
}

// Release is events.Lease's.
func (l *lease) Release(ctx context.Context) error {
	if l.revision == 0 {
		return nil
	}
	kv, err := l.open(ctx)
	if err != nil {
		return err
	}
	err = kv.Delete(ctx, l.name, jetstream.LastRevision(l.revision))
	l.revision = 0
	if err != nil && !wrongRevision(err) {
		return fmt.Errorf("cannot release lease %s: %w", l.name, err)
	}
	return nil
}

// Holder is events.Lease's.
func (l *lease) Holder(ctx context.Context) (string, error) {
	kv, err := l.open(ctx)
	if err != nil {
		return "", err
	}
	entry, err := kv.Get(ctx, l.name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot ask who holds lease %s: %w", l.name, err)
	}
	// The value is an id, a space, and the name.
	_, name, _ := strings.Cut(string(entry.Value()), " ")
	return name, nil
}
