package committer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/committer"
	"github.com/reprise-run/reprise/events/logtest"
	"github.com/reprise-run/reprise/events/memlog"
	"github.com/reprise-run/reprise/projections/live"
)

// TestStorm lets many writers propose at random, good things and bad, on a log
// whose appends go wrong at random, with the projection that production has.
// What the committer accepts the projection must fold, and each writer must have
// been told the truth.
func TestStorm(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { storm(t, seed) })
	}
}

func storm(t *testing.T, seed uint64) {
	const writers, proposals = 6, 60
	log := logtest.NewFaulty(memlog.New())
	random := rand.New(rand.NewPCG(seed, 0))
	for range writers * proposals {
		log.Plan([]logtest.Fault{logtest.None, logtest.None, logtest.LostAck, logtest.LostBatch, logtest.Late, logtest.Held, logtest.Refused}[random.IntN(7)])
	}
	projection, err := live.Start(t.Context(), log, live.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := committer.New(log, projection, committer.Options{Group: 16})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	<-c.Begun()

	var mu sync.Mutex
	told := make(map[uint64]events.Change)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(w+1)))
			for i := range proposals {
				p := randomProposal(random, projection, fmt.Sprintf("%d-%d", w, i))
				receipt, err := c.Propose(t.Context(), p)
				var conflict *events.ConflictError
				var refused *events.RefusedError
				if err != nil && !errors.As(err, &conflict) && !errors.As(err, &refused) && !errors.Is(err, events.ErrUnavailable) {
					t.Error(err)
				}
				if err != nil {
					continue
				}
				mu.Lock()
				for i, change := range p.Changes {
					told[receipt.First+uint64(i)] = change
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the committer ended with %v", err)
	}
	checkStorm(t, log, projection, told)
}

func checkStorm(t *testing.T, log events.Log, projection *live.Live, told map[uint64]events.Change) {
	last, err := log.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := projection.Wait(t.Context(), last); err != nil {
		t.Fatalf("the projection does not fold what the committer accepted: %v", err)
	}
	if uint64(len(told)) != last {
		t.Errorf("writers were told of %d events, and the log has %d", len(told), last)
	}
	var all []events.Event
	for s := uint64(1); s <= last; s++ {
		e, err := log.Get(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if c := told[s]; e.Type != c.Type || e.Object != c.Object || string(e.Data) != string(c.Data) {
			t.Errorf("a writer was told that sequence %d is its %s on %s, and it is:\n%s", s, c.Type, c.Object, &e)
		}
		all = append(all, e)
	}
	if _, err := events.VerifyChain(0, [32]byte{}, all); err != nil {
		t.Error(err)
	}
}

// randomProposal is about one or some of a few objects. It looks at the
// projection for what to expect, or does not care, or is wrong altogether.
func randomProposal(random *rand.Rand, projection *live.Live, mark string) events.Proposal {
	p := events.Proposal{Actor: events.Actor{Kind: "api"}, Basis: projection.Folded()}
	for range 1 + random.IntN(3) {
		object := events.Ref{Resource: "configmaps", Namespace: "default", Name: string(rune('a' + random.IntN(5)))}
		raw, _, uid, sequence, ok := projection.Lookup(object)
		c := events.Change{Object: object}
		switch random.IntN(8) {
		case 0:
			c.Type, c.Data = "configmap.deleted", events.Removal()
		case 1:
			c.Type, c.Data = "configmap.labeled", []byte(`[{"op":"add","path":"/data/x","value":1}]`) // leaves its paths
		case 2, 3:
			c.Type, c.Data = "configmap.data-changed", fmt.Appendf(nil, `[{"op":"replace","path":"/data/mark","value":%q}]`, mark)
		case 4:
			after, err := events.Apply(raw, fmt.Appendf(nil, `[{"op":"add","path":"/data/%s","value":null}]`, mark))
			if !ok || err != nil {
				continue
			}
			c, _, _ = events.Command(object, uid, raw, after)
		default:
			c.Type = "configmap.created"
			c.Data = fmt.Appendf(nil, `{"data":{"mark":%q},"kind":"ConfigMap","metadata":{"uid":"u-%s"}}`, mark, mark)
		}
		if random.IntN(2) == 0 {
			p.Expect = append(p.Expect, events.Expectation{Object: object, Sequence: sequence})
		}
		p.Changes = append(p.Changes, c)
	}
	return p
}
