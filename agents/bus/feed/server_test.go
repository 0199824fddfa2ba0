package feed

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/schemas/schematest"
)

// A node that asks for what the log does not have is told so as soon as it has stopped waiting.
func TestNobodyWaitsForWhatIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p, err := live.Start(ctx, schematest.NewLog(t), live.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s := &server{prefix: "reprise", projection: p, do: make(chan func())}
		for what, ask := range map[string]func(context.Context, string, call) answer{"begins": s.begin, "asks how far": s.progress} {
			began := time.Now()
			a := ask(ctx, "n1", call{Epoch: "e", Sequence: 99})
			if took := time.Since(began); took != patience || !strings.Contains(a.Error, "99: "+notSoFar) {
				t.Errorf("a node that %s is told after %s: %+v", what, took, a)
			}
		}
		ended, end := context.WithCancel(ctx)
		end()
		if err := s.reach(ended, 99); !errors.Is(err, context.Canceled) {
			t.Errorf("at the end it is told %v", err)
		}
		cancel()
		<-p.Done()
	})
}
