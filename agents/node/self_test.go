package node_test

import (
	"context"
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
		b.stop()
		network := &unplugged{RuntimeServiceClient: b.runtime}
		b.containers = network
		b.start()
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
// it is heard all the time.
func TestANodeSaysThatItIsThere(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.stop()
		began := time.Now()
		var said []time.Duration
		var heard atomic.Pointer[time.Time]
		always := false
		b.alive = func(context.Context) (bool, error) {
			said = append(said, time.Since(began))
			return false, nil
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
		for _, c := range []struct {
			heard  time.Duration // before it starts
			later  time.Duration // and after that, 0 for never
			always bool
			want   []time.Duration
		}{
			{-time.Hour, 0, false, []time.Duration{0, 10, 20, 30, 40, 50, 60}},
			{3 * time.Second, 0, false, []time.Duration{0, 13, 23, 33, 43, 53, 63}},
			{4 * time.Second, 12 * time.Second, false, []time.Duration{0, 22, 32, 42, 52, 62}},
			{0, 0, true, []time.Duration{0, 30, 60}},
		} {
			began, said, always = time.Now(), nil, c.always
			at(c.heard)
			b.start()
			b.settle(11 * time.Second)
			if c.later > 0 {
				at(c.later)
			}
			b.settle(54 * time.Second)
			b.stop()
			for i := range c.want {
				c.want[i] *= time.Second
			}
			if !slices.Equal(said, c.want) {
				t.Errorf("%+v: it said so at %v", c, said)
			}
		}
		b.start()
	})
}
