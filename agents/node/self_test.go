package node_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// unplugged is a runtime that may have no network.
type unplugged struct {
	runtimeapi.RuntimeServiceClient
	is atomic.Bool
}

func (u *unplugged) Status(context.Context, *runtimeapi.StatusRequest, ...grpc.CallOption) (*runtimeapi.StatusResponse, error) {
	return &runtimeapi.StatusResponse{Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
		{Type: runtimeapi.RuntimeReady, Status: true}, {Type: runtimeapi.NetworkReady, Status: !u.is.Load(), Reason: "NoNetwork"},
	}}}, nil
}

// A node tells what is new about it when it looks at itself, as often as it is, and nothing
// else.
func TestANodeTellsWhatIsNewAboutIt(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		network := &unplugged{RuntimeServiceClient: b.runtime}
		b.use(network)
		synctest.Wait()
		look := func() (sequence uint64, ready bool) {
			b.settle(10 * time.Second)
			e := b.view.View().Get(events.Ref{Resource: "nodes", Name: "n1"})
			for _, c := range projections.As[v1.Node](e).Status.Conditions {
				ready = ready || c.Type == v1.NodeReady && c.Status == v1.ConditionTrue
			}
			return e.Sequence, ready
		}
		for last, round := uint64(0), 0; round < 3; round++ {
			told, ready := look()
			if told == last || !ready {
				t.Errorf("round %d: with a network, the node is ready: %t, and told of at %d after %d", round, ready, told, last)
			}
			for range round { // The second time it is known that all has been told.
				if again, _ := look(); again != told {
					t.Errorf("round %d: nothing is new, and it was told at %d", round, again)
				}
			}
			network.is.Store(true)
			if last, ready = look(); last == told || ready {
				t.Errorf("round %d: without a network, the node is ready: %t, and told of at %d after %d", round, ready, last, told)
			}
			network.is.Store(false)
		}
	})
}

// A node says that it is there ten seconds after it was heard, and after half a minute also if
// it is heard all the time. If its Lease is to be renewed, or nobody heard what it said, it says
// so after ten seconds.
func TestANodeSaysThatItIsThere(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.stop()
		began := time.Now()
		var said []time.Duration
		var heard atomic.Pointer[time.Time]
		var always, renew bool
		var fails error
		b.alive = func(context.Context) (bool, error) {
			said = append(said, time.Since(began)/time.Second)
			return renew, fails
		}
		b.heard = func() time.Time {
			if always {
				return time.Now()
			}
			return *heard.Load()
		}
		at := func(after time.Duration) {
			then := began.Add(after)
			heard.Store(&then)
		}
		every10 := []time.Duration{0, 10, 20, 30, 40, 50, 60}
		for _, c := range []struct {
			heard         time.Duration // before it starts
			later         time.Duration // and after that, 0 for never
			always, renew bool
			fails         error
			want          []time.Duration // in seconds
		}{
			{heard: -time.Hour, want: every10},
			{heard: 3 * time.Second, want: []time.Duration{0, 13, 23, 33, 43, 53, 63}},
			{heard: 4 * time.Second, later: 12 * time.Second, want: []time.Duration{0, 22, 32, 42, 52, 62}},
			{always: true, want: []time.Duration{0, 30, 60}},
			{always: true, renew: true, want: every10},
			{always: true, fails: errors.New("nobody is there"), want: every10},
		} {
			began, said, always, renew, fails = time.Now(), nil, c.always, c.renew, c.fails
			at(c.heard)
			b.start()
			b.settle(11 * time.Second)
			if c.later > 0 {
				at(c.later)
			}
			b.settle(54 * time.Second)
			b.stop()
			if !slices.Equal(said, c.want) {
				t.Errorf("%+v: it said so at %d", c, said)
			}
		}
		b.start()
	})
}

// A node that somebody has removed says that it is there as soon as it would if it were not
// heard: the one that it becomes has no Lease.
func TestANodeThatIsAnotherSaysThatItIsThere(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.stop()
		began := time.Now()
		var said []time.Duration
		b.alive = func(context.Context) (bool, error) {
			said = append(said, time.Since(began)/time.Second)
			return false, nil
		}
		b.heard = time.Now
		b.start()
		b.settle(time.Second)
		ref := events.Ref{Resource: "nodes", Name: "n1"}
		before := b.view.View().Get(ref)
		b.propose(events.Change{Type: "node.deleted", Object: ref, UID: before.UID, Data: events.Removal()})
		b.settle(34 * time.Second)
		if after := b.view.View().Get(ref); after == nil || after.UID == before.UID {
			t.Fatalf("the node was not registered anew: %v", after)
		}
		// When ten seconds are over it finds itself removed, or another already.
		if len(said) < 2 || said[1] > 20 {
			t.Errorf("it said so at %d", said)
		}
	})
}
