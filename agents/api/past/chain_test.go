package past

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/history"
)

// unreadable is a history whose definitions cannot be read.
type unreadable struct{ history.Reader }

func (unreadable) ListAt(context.Context, string, string, string, uint64) iter.Seq2[*projections.Entry, error] {
	return func(yield func(*projections.Entry, error) bool) { yield(nil, errors.New("a block is damaged")) }
}

func (unreadable) ListFrom(ctx context.Context, _ events.Ref, _ string, sequence uint64, _ int) iter.Seq2[*projections.Entry, error] {
	return unreadable{}.ListAt(ctx, "", "", "", sequence)
}

// TestChainThatIsNeverReady starts chains that cannot, which must neither end the
// process nor stay.
func TestChainThatIsNeverReady(t *testing.T) {
	base := runtime.NumGoroutine()
	for range 2 {
		_, err := newChains(Options{Reader: unreadable{}, Patience: 2 * time.Second}).startInTurn(1)
		if err == nil || !strings.Contains(err.Error(), "do not become ready") {
			t.Fatalf("%v", err)
		}
	}
	// A chain has hundreds of goroutines; those few that upstream leaves wait for
	// something and hold little.
	deadline := time.Now().Add(time.Minute)
	for runtime.NumGoroutine() > base+60 {
		if time.Now().After(deadline) {
			t.Fatalf("there are %d goroutines, and were %d", runtime.NumGoroutine(), base)
		}
		runtime.Gosched()
	}
}
