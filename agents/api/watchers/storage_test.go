package watchers_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"

	"github.com/reprise-run/reprise/agents/api/watchers"
)

// source is a storage whose watches tell what a test says.
type source struct {
	storage.Interface
	opened []*stream
	first  []watch.Event // what the next ones tell at once
	now    uint64
}

// stream is one watch of it.
type stream struct {
	from    string // the version after which it was asked for
	events  chan watch.Event
	told    int // up to which version
	stopped bool
}

func (s *source) Watch(_ context.Context, _ string, o storage.ListOptions) (watch.Interface, error) {
	w := &stream{from: o.ResourceVersion, events: make(chan watch.Event, 10_000)}
	s.opened = append(s.opened, w)
	for _, e := range s.first {
		w.events <- e
	}
	return w, nil
}

// tellTwo has all watches, begun at 10, tell two events, each before any tells the next.
func (s *source) tellTwo() {
	for _, w := range s.opened {
		w.told = 10
		w.tell(11)
	}
	for _, w := range s.opened {
		w.tell(12)
	}
}

func (s *source) GetCurrentResourceVersion(context.Context) (uint64, error) { return s.now, nil }

func blank() runtime.Object { return &core.Pod{} }

func (s *stream) ResultChan() <-chan watch.Event { return s.events }
func (s *stream) Stop()                          { s.stopped = true }

// tell tells the versions up to one, and what is running takes them.
func (s *stream) tell(to int) {
	for s.told < to {
		s.told++
		s.events <- event(watch.Modified, s.told)
	}
	synctest.Wait()
}

func event(kind watch.EventType, version int) watch.Event {
	return watch.Event{Type: kind, Object: &core.Pod{ObjectMeta: metav1.ObjectMeta{ResourceVersion: strconv.Itoa(version)}}}
}

func follow(t *testing.T, s storage.Interface, o storage.ListOptions) watch.Interface {
	t.Helper()
	w, err := s.Watch(t.Context(), "/pods/", o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// heard is what has been laid out for a watcher. more says whether there may be more.
func heard(w watch.Interface) (versions []int, more bool) {
	for {
		synctest.Wait()
		select {
		case e, open := <-w.ResultChan():
			if !open {
				return versions, false
			}
			v, _ := strconv.Atoi(e.Object.(metav1.Object).GetResourceVersion())
			versions = append(versions, v)
		default:
			return versions, true
		}
	}
}

func expect(t *testing.T, w watch.Interface, after, last int, more bool) {
	t.Helper()
	versions, open := heard(w)
	for i, v := range versions {
		if v != after+1+i {
			t.Fatalf("heard %v, not what follows %d", versions, after)
		}
	}
	if len(versions) != last-after || open != more {
		t.Fatalf("heard %d versions after %d, of %d; more may come: %t", len(versions), after, last-after, open)
	}
}

func since(version int) storage.ListOptions {
	return storage.ListOptions{ResourceVersion: strconv.Itoa(version)}
}

// Whichever of its own watch and the feed is ahead, and for how long, a watcher hears
// each event once and in order.
func TestTurn(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 0))
				below := &source{}
				s := watchers.Shared(below, blank)
				began, from := 5+random.IntN(10), 5+random.IntN(20)
				follow(t, s, since(5))
				follow(t, s, since(began))
				synctest.Wait()
				feed := below.opened[2]
				feed.told = began
				feed.tell(began + random.IntN(10))
				joined := feed.told
				w := follow(t, s, since(from))
				synctest.Wait()
				own := below.opened[3]
				own.told = from
				if from >= joined != own.stopped {
					t.Errorf("it joined at %d from %d on; the own watch ended: %t", joined, from, own.stopped)
				}
				for range 10 {
					own.tell(own.told + random.IntN(4))
					feed.tell(feed.told + random.IntN(4))
				}
				last := max(own.told, feed.told) + 2
				own.tell(last)
				feed.tell(last)
				// What the own watch does not tell any more the feed does.
				feed.tell(last + 50)
				expect(t, w, from, last+50, true)
				if !own.stopped {
					t.Error("the own watch goes on")
				}
				w.Stop()
				expect(t, w, last+50, last+50, false)
			})
		})
	}
}

// Whose own watch is cut off goes on with the feed, if that has the rest.
func TestCutOff(t *testing.T) {
	for _, c := range []struct {
		told int
		goes bool
	}{{13, false}, {14, true}, {17, true}} {
		synctest.Test(t, func(t *testing.T) {
			below := &source{first: []watch.Event{event(watch.Modified, 11)}}
			s := watchers.Shared(below, blank)
			one := follow(t, s, since(10))
			for v := 12; v <= c.told; v++ {
				below.opened[0].events <- event(watch.Modified, v)
			}
			synctest.Wait()
			below.first = nil
			follow(t, s, since(14))
			synctest.Wait()
			close(below.opened[0].events)
			synctest.Wait()
			feed := below.opened[2]
			feed.told = 14
			feed.tell(20)
			if c.goes {
				expect(t, one, 10, 20, true)
			} else {
				expect(t, one, 10, c.told, false)
			}
		})
	}
}

// The only watcher of a scope goes on where its own watch was cut off, as often as that is,
// unless it does not know where that was, or what follows is no longer to be had.
func TestTheOnlyOneGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := &source{}
		w := follow(t, watchers.Shared(below, blank), since(10))
		below.opened[0].told = 10
		below.opened[0].tell(13)
		close(below.opened[0].events)
		synctest.Wait()
		for i, from := range []string{"13", "20"} {
			if len(below.opened) != i+2 || below.opened[i+1].from != from {
				t.Fatalf("%d watches were begun, the last after %s, not %s", len(below.opened), below.opened[len(below.opened)-1].from, from)
			}
			below.opened[i+1].told = 13 + 7*i
			below.opened[i+1].tell(20 + 7*i)
			close(below.opened[i+1].events)
			synctest.Wait()
		}
		expect(t, w, 10, 27, true)
		below.opened[3].events <- watch.Event{Type: watch.Error, Object: &metav1.Status{Reason: metav1.StatusReasonExpired}}
		if _, more := heard(w); more {
			t.Error("it is not told that it cannot go on")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		below, yes := &source{}, true
		o := storage.ListOptions{SendInitialEvents: &yes, Predicate: storage.SelectionPredicate{AllowWatchBookmarks: true}}
		w := follow(t, watchers.Shared(below, blank), o)
		below.opened[0].tell(13)
		close(below.opened[0].events)
		if _, more := heard(w); more || len(below.opened) > 1 {
			t.Error("in the midst of its first events it goes on")
		}
	})
}

// The only watcher of a scope is sent away if it is far behind when its own watch is cut off,
// and begins nothing when its request has ended.
func TestTheOnlyOneIsSentAway(t *testing.T) {
	for _, slow := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			below := &source{}
			ctx, cancel := context.WithCancel(t.Context())
			w, err := watchers.Shared(below, blank).Watch(ctx, "/pods/", since(10))
			if err != nil {
				t.Fatal(err)
			}
			if slow {
				for v := 11; v <= 100; v++ { // made for all who watch, so that they gather
					e := event(watch.Modified, v)
					e.Object = watchers.Common(e.Object)
					below.opened[0].events <- e
				}
				synctest.Wait()
			} else {
				cancel()
			}
			close(below.opened[0].events)
			if versions, more := heard(w); more || slow && len(versions) != 90 || len(below.opened) > 1 {
				t.Errorf("slow %v: heard %d, more may come %v, of %d watches", slow, len(versions), more, len(below.opened))
			}
			cancel()
		})
	}
}

// Who asks for what is no longer to be had hears so, also where a feed has what follows.
func TestTooOld(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			below := &source{}
			s := watchers.Shared(below, blank)
			follow(t, s, since(10))
			follow(t, s, since(10))
			synctest.Wait()
			below.first = []watch.Event{{Type: watch.Error, Object: &metav1.Status{Reason: metav1.StatusReasonExpired}}}
			w := follow(t, s, since(10))
			close(below.opened[3].events)
			if e := <-w.ResultChan(); e.Type != watch.Error {
				t.Errorf("heard %v", e)
			}
			expect(t, w, 10, 10, false)
		})
	}
}

// Who selects nothing shares with nobody, and with nobody who selects all.
func TestNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := &source{}
		s := watchers.Shared(below, blank)
		follow(t, s, since(10))
		for range 2 {
			o := since(10)
			o.Predicate.Label = labels.Nothing()
			follow(t, s, o)
			o.Predicate.Label, o.Predicate.Field = labels.Everything(), fields.Nothing()
			follow(t, s, o)
		}
		synctest.Wait()
		if len(below.opened) != 5 {
			t.Errorf("%d watches were begun, not 5", len(below.opened))
		}
		o := since(10)
		o.Predicate.Label, o.Predicate.Field = labels.Everything(), fields.Everything()
		follow(t, s, o)
		synctest.Wait()
		if len(below.opened) != 7 {
			t.Errorf("%d watches were begun, not 7: who selects all hears the same", len(below.opened))
		}
	})
}

// The first events of a watch are in no order, and are not taken for what happens.
func TestFirstEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below, yes := &source{now: 3}, true
		s := watchers.Shared(below, blank)
		o := storage.ListOptions{SendInitialEvents: &yes, Predicate: storage.SelectionPredicate{AllowWatchBookmarks: true}}
		follow(t, s, o)
		w := follow(t, s, o)
		synctest.Wait()
		own, feed := below.opened[1], below.opened[2]
		if feed.from != "3" {
			t.Errorf("the feed begins after %s", feed.from)
		}
		feed.told = 3
		end := event(watch.Bookmark, 8)
		if err := storage.AnnotateInitialEventsEndBookmark(end.Object); err != nil {
			t.Fatal(err)
		}
		for _, e := range []watch.Event{event(watch.Added, 7), event(watch.Added, 2), event(watch.Added, 4), end} {
			own.events <- e
		}
		feed.tell(12)
		versions, _ := heard(w)
		if got, want := fmt.Sprint(versions), "[7 2 4 8 9 10 11 12]"; got != want {
			t.Errorf("heard %s, not %s", got, want)
		}
	})
}

// A feed that is cut off goes on where it was.
func TestFeedGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := &source{}
		s := watchers.Shared(below, blank)
		one, two := follow(t, s, since(10)), follow(t, s, since(10))
		synctest.Wait()
		below.tellTwo()
		close(below.opened[2].events)
		synctest.Wait()
		if len(below.opened) != 4 || below.opened[3].from != "12" {
			t.Fatalf("the feed does not go on after what it told last")
		}
		below.opened[3].told = 12
		below.opened[3].tell(40)
		expect(t, one, 10, 40, true)
		expect(t, two, 10, 40, true)

		// One that has told nothing does not know where it is in the history, or that
		// there is more of it: its members begin anew.
		close(below.opened[3].events)
		synctest.Wait()
		close(below.opened[4].events)
		expect(t, one, 40, 40, false)
		expect(t, two, 40, 40, false)
	})
}

// Who does not read is cut off at last, and nobody else is.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := &source{}
		s := watchers.Shared(below, blank)
		idle, busy := follow(t, s, since(10)), follow(t, s, since(10))
		synctest.Wait()
		below.tellTwo()
		at := 10
		for range 50 {
			below.opened[2].tell(below.opened[2].told + 100)
			expect(t, busy, at, below.opened[2].told, true)
			at = below.opened[2].told
		}
		versions, open := heard(idle)
		if len(versions) < 4096 || len(versions) > 4200 || open {
			t.Errorf("who did not read heard %d, and may hear more: %t", len(versions), open)
		}
		for i, v := range versions {
			if v != 11+i {
				t.Fatalf("heard %d after %d", v, 10+i)
			}
		}
	})
}

// A feed ends with its last member.
func TestFeedEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := &source{}
		s := watchers.Shared(below, blank)
		ctx, cancel := context.WithCancel(t.Context())
		for range 2 {
			if _, err := s.Watch(ctx, "/pods/", since(10)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		for i, w := range below.opened {
			if !w.stopped {
				t.Errorf("watch %d goes on", i)
			}
		}
		follow(t, s, since(10))
		synctest.Wait()
		if len(below.opened) != 4 {
			t.Errorf("%d watches were begun, not 4: who is alone needs no feed", len(below.opened))
		}
	})
}

// Before its time is up a watcher who wants bookmarks hears how far it is, also one who
// has heard nothing.
func TestReminder(t *testing.T) {
	for _, last := range []int{10, 13} {
		synctest.Test(t, func(t *testing.T) {
			below := &source{}
			s := watchers.Shared(below, blank)
			w := brief(t, s)
			below.opened[2].told = 10
			below.opened[2].tell(last)
			expect(t, w, 10, last, true)
			time.Sleep(time.Minute - 2*time.Second)
			e := <-w.ResultChan()
			if pod, is := e.Object.(*core.Pod); e.Type != watch.Bookmark || !is || pod.ResourceVersion != strconv.Itoa(last) {
				t.Errorf("heard %v, not a bookmark of %d", e, last)
			}
		})
	}
}

// Who has gone is not reminded.
func TestReminderTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := &source{}
		w := brief(t, watchers.Shared(below, blank))
		w.Stop()
		expect(t, w, 10, 10, false)
		time.Sleep(time.Minute - 2*time.Second)
		expect(t, w, 10, 10, false)
	})
}

// brief begins a watch for a minute with bookmarks, which is a part of a feed.
func brief(t *testing.T, s storage.Interface) watch.Interface {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	o := since(10)
	o.Predicate.AllowWatchBookmarks = true
	follow(t, s, o)
	w, err := s.Watch(ctx, "/pods/", o)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return w
}
