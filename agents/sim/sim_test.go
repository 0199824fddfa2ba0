package sim_test

import (
	"flag"
	"runtime/debug"
	"testing"
	"time"

	"github.com/reprise-run/reprise/agents/sim"
	"github.com/reprise-run/reprise/schemas/schematest"
)

var (
	from  = flag.Uint64("from", 1, "the first seed")
	seeds = flag.Uint64("seeds", 200, "how many seeds")
	size  = flag.Int("size", 1, "about how much happens in each")
)

func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(400)
	m.Run()
}

// run plays a plan. The events of some are held against their schemas.
func run(t *testing.T, p sim.Plan, bugs sim.Bugs) sim.Outcome {
	log := schematest.NewLog(t)
	if p.Seed%16 == 0 {
		return sim.Run(p, log, bugs)
	}
	return sim.Run(p, log.Log, bugs)
}

func TestSeeds(t *testing.T) {
	n := 0
	for seed := *from; seed < *from+*seeds; seed++ {
		p := sim.NewPlan(seed, *size)
		began := time.Now()
		o := run(t, p, sim.Bugs{})
		n += len(o.Events)
		if d := time.Since(began); d > 10*time.Second {
			t.Logf("seed %d took %s for %d events", seed, d, len(o.Events))
		}
		if o.Failure != nil {
			for i := range o.Events {
				t.Log(o.Events[i].Headline())
			}
			t.Fatalf("%s\n%s", p, o.Failure)
		}
	}
	t.Logf("%d events in %d seeds", n, *seeds)
}

func TestSameSeedSameLog(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		a, b := run(t, sim.NewPlan(seed, 2), sim.Bugs{}), run(t, sim.NewPlan(seed, 2), sim.Bugs{})
		if a.Hash != b.Hash || a.Took != b.Took {
			t.Fatalf("seed %d gives two logs, of %d and %d events", seed, len(a.Events), len(b.Events))
		}
	}
}
