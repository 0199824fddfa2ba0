package storage

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Upstream's caches can keep a copy of themselves for each version of each object that
// they hear of, to answer lists as of one revision: the second page of a list, and those
// after it. Here they keep none. Objects makes such a list from the projection, and a
// view of that stays for who was given a first page. See decision 0359.

// Paged returns upstream's storage of the resource that it keeps under a prefix, with a
// cache or without, such that who reads a list by pages gets all of them as of one moment.
func (b *Backend) Paged(s storage.Interface, prefix string) (storage.Interface, error) {
	scope, ok := b.keys.Scope(b.keys.root + strings.Trim(prefix, "/") + "/")
	if !ok {
		return nil, noSuchKey(prefix)
	}
	return paged{s, b.stream(scope)}, nil
}

type paged struct {
	storage.Interface
	stream *stream
}

// GetList implements storage.Interface.
func (p paged) GetList(ctx context.Context, key string, opts storage.ListOptions, list runtime.Object) error {
	if err := p.Interface.GetList(ctx, key, opts, list); err != nil {
		return err
	}
	is, err := meta.ListAccessor(list)
	if err != nil || is.GetContinue() == "" {
		return nil
	}
	if revision, err := p.Versioner().ParseResourceVersion(is.GetResourceVersion()); err == nil {
		p.stream.keep(ctx, revision)
	}
	return nil
}

// GetList implements storage.Interface. A list as of a revision is made here. Whatever is
// to be said of one that cannot be is said by upstream, of what is stored.
func (o *Objects) GetList(ctx context.Context, key string, opts storage.ListOptions, list runtime.Object) error {
	if items, ok := itemsOf(list); ok && opts.Recursive {
		if o.page(ctx, key, opts, list, items) == nil {
			return nil
		}
		items.SetZero()
	}
	return o.Interface.GetList(ctx, key, opts, list)
}

func itemsOf(list runtime.Object) (items reflect.Value, ok bool) {
	at, err := meta.GetItemsPtr(list)
	if err != nil {
		return items, false
	}
	items = reflect.ValueOf(at)
	if items.Kind() != reflect.Pointer || items.Elem().Kind() != reflect.Slice || items.Elem().Type().Elem().Kind() != reflect.Struct {
		return items, false
	}
	return items.Elem(), true
}

// errNoPage says that a list is not one as of a revision.
var errNoPage = errors.New("the list is not one as of a revision")

// page fills a list as of a revision.
func (o *Objects) page(ctx context.Context, key string, opts storage.ListOptions, list runtime.Object, items reflect.Value) error {
	prefix := o.keys.root + strings.Trim(key, "/") + "/"
	scope, ok := o.keys.Scope(prefix)
	revision, from, err := storage.ValidateListOptions(prefix, o.Versioner(), opts)
	if !ok || err != nil || revision <= 0 {
		return errNoPage
	}
	p, err := o.stream.at(ctx, uint64(revision))
	if err != nil {
		return err
	}
	entries := o.keys.from(from, p.ordered(scope))
	if opts.Predicate.Empty() {
		n := len(entries)
		if limit := int(opts.Predicate.Limit); limit > 0 {
			n = min(n, limit)
		}
		items.Grow(n)
	}
	read := 0
	defer func() { o.forgetGone(entries[:read]) }()
	for _, e := range entries {
		if limit := opts.Predicate.Limit; limit > 0 && int64(items.Len()) >= limit {
			break
		}
		read++
		object, err := o.object(ctx, e, e.Sequence)
		if err != nil {
			return err
		}
		matches, err := opts.Predicate.Matches(object)
		if err != nil {
			return err
		}
		if matches {
			items.Set(reflect.Append(items, reflect.ValueOf(object).Elem()))
		}
	}
	var last string
	if read > 0 {
		last = o.keys.Key(entries[read-1].Ref)
	}
	token, remaining, err := storage.PrepareContinueToken(last, prefix, revision, int64(len(entries)), read < len(entries), opts)
	if err != nil {
		return err
	}
	if items.IsNil() {
		items.Set(reflect.MakeSlice(items.Type(), 0, 0))
	}
	if err := o.Versioner().UpdateList(list, uint64(revision), token, remaining); err != nil {
		return err
	}
	opts.Predicate.SetShardInfoOnList(list)
	return nil
}

// forgetGone has the decoder forget what was read of the past and is there no more: its
// end has been told, and nothing is heard of it again.
func (o *Objects) forgetGone(read []*projections.Entry) {
	view := o.stream.Projection.View()
	for _, e := range read {
		if now := view.Get(e.Ref); now == nil || now.UID != e.UID {
			o.decoder.Forget(e)
		}
	}
}

// ordered returns the objects within a scope as upstream's caches order them, by key:
// which is not the order of references, because "/" sorts after "-".
func (p past) ordered(scope events.Ref) []*projections.Entry {
	all := p.list(scope)
	slices.SortFunc(all, func(a, b *projections.Entry) int { return compareKeys(a.Ref, b.Ref) })
	return all
}

// from returns those of ordered objects whose keys are not less than one.
func (k *Keys) from(key string, ordered []*projections.Entry) []*projections.Entry {
	start, _ := slices.BinarySearchFunc(ordered, key, func(e *projections.Entry, key string) int {
		return strings.Compare(k.Key(e.Ref), key)
	})
	return ordered[start:]
}

// compareKeys compares the keys of two objects of one resource.
func compareKeys(a, b events.Ref) int {
	if a.Namespace == b.Namespace {
		return strings.Compare(a.Name, b.Name)
	}
	return strings.Compare(below(a), below(b))
}

// below is the end of a key.
func below(r events.Ref) string {
	if r.Namespace == "" {
		return r.Name
	}
	return r.Namespace + "/" + r.Name
}
