package watchers

import (
	"context"
	"strconv"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/storage"
)

// scope is what watchers have in common who hear the same.
type scope struct {
	key, labels, fields            string
	recursive, bookmarks, progress bool
	namespace, name                string // of the request: upstream files watchers by them
}

// feeds are those of one storage.
type feeds struct {
	mu sync.Mutex
	of map[scope]*feed
}

// feed is one watch for all watchers of a scope. It begins with the second of them, or when
// the only one's own watch is cut off, and ends with the last.
type feed struct {
	feeds  *feeds
	scope  scope
	open   func(ctx context.Context, version uint64) (watch.Interface, error)
	now    func(ctx context.Context) (version uint64, err error)
	lender *lender

	mu      sync.Mutex
	members map[*queue]struct{}
	cancel  context.CancelFunc // nil before it has begun
	since   uint64             // after which version all is still to be told; 0 before it has begun
}

// join makes a watcher a member of the feed of its scope.
func (f *feeds) join(ctx context.Context, s storage.Interface, key string, o storage.ListOptions, q *queue) *feed {
	of := scopeOf(ctx, key, o)
	f.mu.Lock()
	defer f.mu.Unlock()
	member := f.of[of]
	if member == nil {
		member = &feed{feeds: f, scope: of, members: map[*queue]struct{}{}, now: s.GetCurrentResourceVersion, lender: q.lender}
		member.open = func(ctx context.Context, version uint64) (watch.Interface, error) {
			o.ResourceVersion = strconv.FormatUint(version, 10)
			return s.Watch(of.in(ctx), key, o)
		}
		no := false
		o.SendInitialEvents, o.ResourceVersionMatch = &no, metav1.ResourceVersionMatchNotOlderThan
		f.of[of] = member
	}
	member.add(q)
	return member
}

func scopeOf(ctx context.Context, key string, o storage.ListOptions) scope {
	s := scope{
		key: key, recursive: o.Recursive, bookmarks: o.Predicate.AllowWatchBookmarks, progress: o.ProgressNotify,
		namespace: request.NamespaceValue(ctx),
	}
	if o.Predicate.Label != nil {
		s.labels = o.Predicate.Label.String()
	}
	if o.Predicate.Field != nil {
		s.fields = o.Predicate.Field.String()
	}
	if info, known := request.RequestInfoFrom(ctx); known && info != nil {
		s.name = info.Name
	}
	return s
}

// in is a context with what upstream looks for in that of a request, and no more of it:
// a feed outlives the request with which it began.
func (s scope) in(ctx context.Context) context.Context {
	return request.WithRequestInfo(request.WithNamespace(ctx, s.namespace), &request.RequestInfo{Name: s.name})
}

// add takes in a watcher whose own watch has begun, and has told nothing yet.
func (f *feed) add(q *queue) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members[q] = struct{}{}
	switch {
	case f.since > 0:
		q.begin(f.since)
	case len(f.members) > 1:
		f.start(q.at)
	}
}

// goOn begins the feed, if it has not, after the last version that a watcher was told whose
// own watch was cut off: upstream does that to who is slow for a moment, and to be the only
// one is no reason to be sent away.
func (f *feed) goOn(at uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.start(at)
}

// start begins the feed, if it has not. It is called with f.mu held.
func (f *feed) start(at uint64) {
	if f.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	go f.run(ctx, at)
}

// leave ends a membership, and the feed with the last one.
func (f *feed) leave(q *queue) {
	f.feeds.mu.Lock()
	defer f.feeds.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.members, q)
	if len(f.members) > 0 {
		return
	}
	if f.cancel != nil {
		f.cancel()
	}
	f.forget()
}

// forget has the next watcher of the scope begin another feed.
func (f *feed) forget() {
	if f.feeds.of[f.scope] == f {
		delete(f.feeds.of, f.scope)
	}
}

// run tells the members what happens. A feed that is cut off, because it was slow, goes
// on where it was, as a client would, if it knows where that is. It begins after a
// version, or, if that is 0, with what happens from now on.
func (f *feed) run(ctx context.Context, at uint64) {
	defer f.end()
	if at == 0 {
		var err error
		if at, err = f.now(ctx); err != nil {
			return
		}
	}
	for {
		w, err := f.open(ctx, at)
		if err != nil {
			return
		}
		f.begin(at)
		last := f.follow(ctx, w)
		w.Stop()
		if last == 0 || ctx.Err() != nil {
			return
		}
		at = last
	}
}

// follow passes on what a watch tells until that ends, and returns the version of the
// last, or 0 if the feed cannot go on there.
func (f *feed) follow(ctx context.Context, w watch.Interface) (last uint64) {
	for {
		select {
		case e, more := <-w.ResultChan():
			if !more {
				return last
			}
			if last = version(e); last == 0 || e.Type == watch.Error {
				return 0
			}
			if _, is := e.Object.(runtime.CacheableObject); is {
				e.Object = f.lender.lend(e.Object)
			} else {
				e.Object = newCommon(e.Object)
			}
			f.pass(e, last)
		case <-ctx.Done():
			return 0
		}
	}
}

// begin tells those who are members already after which version they will hear all.
func (f *feed) begin(at uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.since > 0 {
		return // It goes on.
	}
	f.since = at
	for q := range f.members {
		q.begin(at)
	}
}

func (f *feed) pass(e watch.Event, at uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.Type != watch.Bookmark {
		f.since = at
	}
	for q := range f.members {
		q.tell(e, at)
	}
}

// end tells the members that nothing more will come. They begin anew, and hear then
// what is wrong.
func (f *feed) end() {
	f.feeds.mu.Lock()
	defer f.feeds.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forget()
	for q := range f.members {
		q.end()
	}
}
