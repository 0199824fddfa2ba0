package jetstream

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
)

func TestLease(t *testing.T) {
	s, err := StartServer(ServerOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	rival := func(bucket, holder string, ttl time.Duration) events.Lease {
		nc, err := s.Connect()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		l, err := newLease(nc, Config{Prefix: bucket}, "committer", holder, ttl)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	ctx := t.Context()
	a, b := rival("long", "a", time.Hour), rival("long", "b", time.Hour)
	if who, err := a.Holder(ctx); err != nil || who != "" {
		t.Fatalf("held by %q at first (%v)", who, err)
	}
	if err := a.Renew(ctx); !errors.Is(err, events.ErrLeaseLost) {
		t.Fatalf("renewing what was never held: %v", err)
	}
	must(t, a.Acquire(ctx))
	if who, err := b.Holder(ctx); err != nil || who != "a" {
		t.Fatalf("held by %q (%v)", who, err)
	}
	must(t, a.Renew(ctx))
	brief, cancel := context.WithCancel(ctx)
	waiting := make(chan error, 1)
	go func() { waiting <- b.Acquire(brief) }()
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled wait: %v", err)
	}
	// Handed over.
	go func() { waiting <- b.Acquire(ctx) }()
	must(t, a.Release(ctx))
	must(t, <-waiting)
	if err := a.Renew(ctx); !errors.Is(err, events.ErrLeaseLost) {
		t.Fatalf("renewing what was released: %v", err)
	}
	must(t, a.Release(ctx))
	must(t, b.Release(ctx))
	// A renewal whose answer was lost.
	must(t, a.Acquire(ctx))
	a.(*lease).revision--
	must(t, a.Renew(ctx))
	must(t, a.Release(ctx))
	if who, err := b.Holder(ctx); err != nil || who != "" {
		t.Fatalf("held by %q after the release (%v)", who, err)
	}
	// Left to run out.
	a, b = rival("short", "a", time.Second), rival("short", "b", time.Second)
	must(t, b.Acquire(ctx))
	must(t, a.Acquire(ctx))
	if err := b.Renew(ctx); !errors.Is(err, events.ErrLeaseLost) {
		t.Fatalf("renewing what has run out: %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
