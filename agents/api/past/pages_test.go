package past

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/client/v3/kubernetes"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/history"
)

// names is a history of objects with these names, which counts how often a list of
// them was begun and how often they were counted.
type names struct {
	history.Reader
	all             []string
	listed, counted *atomic.Int64
}

func (n names) from(from events.Ref) []string {
	i, _ := slices.BinarySearch(n.all, from.Name)
	return n.all[i:]
}

func (n names) ListFrom(_ context.Context, from events.Ref, _ string, at uint64, most int) iter.Seq2[*projections.Entry, error] {
	n.listed.Add(1)
	return func(yield func(*projections.Entry, error) bool) {
		for i, name := range n.from(from) {
			ref := events.Ref{Resource: "configmaps", Namespace: "default", Name: name}
			raw := fmt.Appendf(nil, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q,"namespace":"default"}}`, name)
			if i == most && most > 0 || !yield(projections.NewEntry(ref, "u", 1, at, raw), nil) {
				return
			}
		}
	}
}

func (n names) CountFrom(_ context.Context, from events.Ref, _ string, _ uint64) (int, error) {
	n.counted.Add(1)
	return len(n.from(from)), nil
}

// TestPagesAhead reads a list page by page: from the third on they have been read when
// they are asked for, say the same as if they had not, and do not stay if nobody comes.
func TestPagesAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := names{listed: new(atomic.Int64), counted: new(atomic.Int64)}
		for i := range 10 {
			n.all = append(n.all, fmt.Sprintf("c%d", i))
		}
		life, end := context.WithCancel(t.Context())
		b := newBackend(life, Options{Reader: n}, 7)
		const prefix = "/registry/configmaps/default/"
		next, got := "", []string(nil)
		page := func(limit int64) {
			t.Helper()
			ctx, done := within(t.Context(), Moment{Sequence: 7})
			defer done()
			r, err := b.List(ctx, prefix, kubernetes.ListOptions{Limit: limit, Continue: next})
			if err != nil {
				t.Fatal(err)
			}
			if want := int64(len(n.all) - len(got)); r.Count != want {
				t.Errorf("after %v a page says that %d objects are left, and not %d", got, r.Count, want)
			}
			for _, kv := range r.Kvs {
				got = append(got, string(kv.Key[len(prefix):]))
				next = string(kv.Key) + "\x00"
			}
			synctest.Wait()
		}
		expect := func(what string, listed, counted int64, kept int) {
			t.Helper()
			b.pages.mu.Lock()
			defer b.pages.mu.Unlock()
			if n.listed.Load() != listed || n.counted.Load() != counted || len(b.pages.next) != kept {
				t.Errorf("%s: %d lists were begun, objects counted %d times, %d pages kept; not %d, %d and %d", what,
					n.listed.Load(), n.counted.Load(), len(b.pages.next), listed, counted, kept)
			}
		}
		page(2)
		expect("the first page", 1, 1, 0)
		page(2)
		expect("the second, and one ahead", 3, 2, 1)
		page(2)
		expect("the third, which was read", 4, 2, 1)
		page(1)
		expect("a shorter one, which was not, and one ahead", 6, 3, 1)
		time.Sleep(pagePatience)
		synctest.Wait()
		expect("when nobody has come", 6, 3, 0)
		page(2)
		page(2)
		if !slices.Equal(got, n.all) {
			t.Errorf("the pages hold %v", got)
		}
		end()
		b.pages.close()
		b.pages.begin(Moment{Sequence: 7}, place{}, 1, 1)
		expect("after the end", 8, 4, 0)
	})
}
