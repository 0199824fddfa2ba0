package sim_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reprise-run/reprise/agents/sim"
	"github.com/reprise-run/reprise/schemas/schematest"
)

var (
	from  = flag.Uint64("from", 1, "the first seed")
	seeds = flag.Uint64("seeds", 10_000, "how many seeds")
	size  = flag.Int("size", 1, "about how much happens in each: 1 is short, 3 some hundred events")
	whole = flag.Bool("whole", false, "print what a failing seed does as it is, and not the least that still fails")
)

func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(400) // A world is small and soon gone.
	os.Exit(m.Run())
}

// run plays a plan. The events of some are held against their schemas.
func run(t *testing.T, p sim.Plan, bugs sim.Bugs) sim.Outcome {
	log := schematest.NewLog(t)
	if p.Seed%32 == 0 {
		return sim.Run(p, log, bugs)
	}
	return sim.Run(p, log.Log, bugs)
}

// shrinks is how often a failing plan is played again to make it smaller.
const shrinks = 200

// transcript is the least that fails like a plan did, and how to run that again.
func transcript(t *testing.T, p sim.Plan, o sim.Outcome) string {
	seed := p.Seed
	if !*whole {
		p, o = sim.Shrink(p, o, shrinks, func(p sim.Plan) sim.Outcome { return run(t, p, sim.Bugs{}) })
	}
	return fmt.Sprintf("%s\nagain: go test ./agents/sim -run TestSeeds -seeds 1 -from %d -size %d\n", sim.Transcript(p, o), seed, *size)
}

// TestSeeds plays many seeds, each of which must keep all rules. It leaves off when
// the time of the test run is nearly over, and says so.
func TestSeeds(t *testing.T) {
	last := *from + *seeds - 1
	if testing.Short() {
		last = min(last, *from+499)
	}
	end, limited := t.Deadline()
	var next, played, events atomic.Uint64
	next.Store(*from)
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for !t.Failed() && (!limited || time.Until(end) > time.Minute) {
				seed := next.Add(1) - 1
				if seed > last {
					return
				}
				p := sim.NewPlan(seed, *size)
				o := run(t, p, sim.Bugs{})
				played.Add(1)
				events.Add(uint64(len(o.Events)))
				if o.Failure != nil {
					t.Errorf("seed %d: %s\n\n%s", seed, o.Failure, transcript(t, p, o))
				}
			}
		})
	}
	all.Wait()
	t.Logf("played %d of the seeds %d to %d: %d events", played.Load(), *from, last, events.Load())
	if played.Load() < last-*from+1 && !t.Failed() {
		t.Log("the others are left for another run: this one is nearly out of time")
	}
}

// The same seed gives the same log, whatever runs beside it.
func TestSameSeedSameLog(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= 30; seed++ {
		a, b := run(t, sim.NewPlan(seed, 2), sim.Bugs{}), run(t, sim.NewPlan(seed, 2), sim.Bugs{})
		if a.Hash != b.Hash || a.Took != b.Took {
			t.Fatalf("seed %d gives two logs, of %d and %d events", seed, len(a.Events), len(b.Events))
		}
	}
}
