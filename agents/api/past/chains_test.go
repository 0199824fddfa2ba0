package past

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/history"
)

// tens is a history in which the definitions change at every tenth event.
type tens struct{ history.Reader }

func (tens) ListAt(_ context.Context, _, _, _ string, sequence uint64) iter.Seq2[*projections.Entry, error] {
	return func(yield func(*projections.Entry, error) bool) {
		yield(projections.NewEntry(definitions, "", 1, sequence/10*10+1, []byte("{}")), nil)
	}
}

// fleet starts chains that do nothing, and says which run.
type fleet struct {
	*chains
	fail error
	// hangs is where a chain begins that does not become ready.
	hangs uint64

	mu               sync.Mutex
	started, stopped []uint64
}

func newFleet() *fleet {
	f := &fleet{}
	f.chains = newChains(Options{Reader: tens{}, Chains: 2, Idle: time.Minute})
	f.start = func(_ Options, sequence uint64) (*chain, error) {
		time.Sleep(time.Second)
		if f.fail != nil {
			return nil, f.fail
		}
		f.note(&f.started, sequence)
		return &chain{
			ready: func(ctx context.Context) error {
				if sequence != f.hangs {
					return nil
				}
				ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
				defer cancel()
				<-ctx.Done()
				return ctx.Err()
			},
			stop: func() { f.note(&f.stopped, sequence) },
		}, nil
	}
	return f
}

func (f *fleet) note(to *[]uint64, sequence uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*to = append(*to, sequence)
}

func (f *fleet) use(t *testing.T, sequence uint64) func() {
	t.Helper()
	_, release, err := f.at(t.Context(), sequence)
	if err != nil {
		t.Fatal(err)
	}
	return release
}

func (f *fleet) expect(t *testing.T, started, stopped string) {
	t.Helper()
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if a, b := fmt.Sprint(f.started), fmt.Sprint(f.stopped); a != "["+started+"]" || b != "["+stopped+"]" {
		t.Errorf("started %s and stopped %s, and should have [%s] and [%s]", a, b, started, stopped)
	}
}

func TestChains(t *testing.T) {
	for name, test := range map[string]func(*testing.T, *fleet){
		"moments of one epoch share a chain, which goes when it is idle": func(t *testing.T, f *fleet) {
			first, second := f.use(t, 11), f.use(t, 19)
			first()
			time.Sleep(time.Hour)
			f.expect(t, "11", "")
			second()
			time.Sleep(59 * time.Second)
			f.use(t, 12)()
			time.Sleep(59 * time.Second)
			f.expect(t, "11", "")
			time.Sleep(2 * time.Second)
			f.expect(t, "11", "11")
			f.use(t, 15)()
			f.expect(t, "11 15", "11")
		},
		"the chain goes that was used least lately, and none in use": func(t *testing.T, f *fleet) {
			defer f.use(t, 10)() // It is in use the whole time.
			time.Sleep(time.Millisecond)
			f.use(t, 20)()
			f.use(t, 30)()
			f.expect(t, "10 20 30", "20")
			keep := f.use(t, 30)
			if _, _, err := f.at(t.Context(), 40); err == nil || !strings.Contains(err.Error(), "2 moments that had other custom resource definitions") {
				t.Errorf("with all chains in use: %v", err)
			}
			f.expect(t, "10 20 30", "20")
			go func() { time.Sleep(time.Second); keep() }()
			f.use(t, 40)() // It waits for the one that comes free.
			f.expect(t, "10 20 30 40", "20 30")
		},
		"a start that fails is tried again, but not at once":          testFailedStart,
		"one that hangs holds up others for a moment, and is stopped": testHangingStart,
		"closing does not wait for one that hangs":                    testClosingWhileOneHangs,
		"who gives up does not stop the start": func(t *testing.T, f *fleet) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if _, _, err := f.at(ctx, 10); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("giving up is %v", err)
			}
			f.use(t, 10)()
			f.expect(t, "10", "")
		},
		"closing stops what runs, what starts, and what would": func(t *testing.T, f *fleet) {
			f.use(t, 10)()
			go func() { _, _, _ = f.at(t.Context(), 20) }()
			synctest.Wait()
			f.close()
			f.expect(t, "10 20", "10 20")
			if _, _, err := f.at(t.Context(), 10); !errors.Is(err, errClosed) {
				t.Errorf("after closing: %v", err)
			}
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet()
				test(t, f)
				f.close()
				synctest.Wait()
				f.mu.Lock()
				defer f.mu.Unlock()
				slices.Sort(f.started)
				slices.Sort(f.stopped)
				if !slices.Equal(f.started, f.stopped) {
					t.Errorf("started %d and stopped %d", f.started, f.stopped)
				}
			})
		})
	}
}

func testFailedStart(t *testing.T, f *fleet) {
	f.fail = errors.New("no memory")
	if _, _, err := f.at(t.Context(), 10); !errors.Is(err, f.fail) {
		t.Errorf("the failure is %v", err)
	}
	why := f.fail
	f.fail = nil
	time.Sleep(10 * time.Second)
	if _, _, err := f.at(t.Context(), 10); !errors.Is(err, why) || !strings.Contains(err.Error(), "tried again in 50s") {
		t.Errorf("soon after the failure: %v", err)
	}
	f.use(t, 20)()
	time.Sleep(time.Minute)
	f.use(t, 10)()
	f.expect(t, "20 10", "20")
}

func testHangingStart(t *testing.T, f *fleet) {
	f.hangs = 10
	failed := make(chan error)
	go func() {
		_, _, err := f.at(t.Context(), 10)
		failed <- err
	}()
	synctest.Wait()
	began := time.Now()
	f.use(t, 20)()
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("another one took %s", took)
	}
	if err := <-failed; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it is %v", err)
	}
	f.expect(t, "10 20", "20 10")
}

func testClosingWhileOneHangs(t *testing.T, f *fleet) {
	f.hangs = 10
	go func() { _, _, _ = f.at(t.Context(), 10) }()
	time.Sleep(2 * time.Second)
	began := time.Now()
	f.close()
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
	f.expect(t, "10", "10")
}
