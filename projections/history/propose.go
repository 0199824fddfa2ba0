package history

import (
	"context"
	"slices"
	"strings"

	"github.com/reprise-run/reprise/events"
)

const (
	// proposals are how many ways there are at most to go on with a word.
	proposals = 500
	// recent is how many events back Propose and Actors look.
	recent = 20_000
)

// Propose says how a name that a person begins to write may go on, in order: to a kind
// that the log has had objects of, or, after "pods/", to an object that is there or
// went of late. It does not look at all where there are very many.
func Propose(ctx context.Context, r Reader, n Name) ([]string, error) {
	all, err := r.Resources(ctx)
	if err != nil {
		return nil, err
	}
	kind, rest, sliced := strings.Cut(n.Text, "/")
	if !sliced {
		var kinds []string
		for _, resource := range all {
			kinds = append(kinds, resource.GroupResource())
		}
		return beginning(kinds, n.Text), nil
	}
	of, err := ofKind(ctx, r, all, kind)
	if err != nil || len(of) != 1 {
		return nil, err
	}
	refs, err := near(ctx, r, of[0], n, rest)
	var names []string
	for _, ref := range refs {
		if ref.Namespace == "" || ref.Namespace == n.Namespace {
			names = append(names, kind+"/"+ref.Name)
		}
		if ref.Namespace != "" && (ref.Namespace != n.Namespace || strings.Contains(rest, "/")) {
			names = append(names, kind+"/"+ref.Namespace+"/"+ref.Name)
		}
	}
	return beginning(names, n.Text), err
}

// near finds objects of a resource whose name begins as the rest of a word does, or
// that something happened to of late.
func near(ctx context.Context, r Reader, resource events.Ref, n Name, rest string) (refs []events.Ref, err error) {
	from := resource
	from.Namespace, from.Name = n.Namespace, rest
	if in, bare, sliced := strings.Cut(rest, "/"); sliced {
		from.Namespace, from.Name = in, bare
	}
	for _, namespace := range []string{from.Namespace, ""} {
		from.Namespace = namespace
		for e, err := range r.ListFrom(ctx, from, namespace, r.Folded(), proposals) {
			if err != nil {
				return nil, err
			}
			if e.Ref.Namespace != namespace || !strings.HasPrefix(e.Ref.Name, from.Name) {
				break
			}
			refs = append(refs, e.Ref)
		}
	}
	q := Query{Resource: resource.GroupResource(), Namespace: n.asked(), First: r.Folded() - min(r.Folded(), recent) + 1, Bare: true}
	for e, err := range r.Events(ctx, q) {
		if err != nil {
			return nil, err
		}
		refs = append(refs, e.Object)
	}
	return refs, nil
}

// beginning are those of some words that begin with another, each once.
func beginning(words []string, with string) []string {
	words = slices.DeleteFunc(words, func(word string) bool { return !strings.HasPrefix(word, with) })
	slices.Sort(words)
	words = slices.Compact(words)
	return words[:min(len(words), proposals)]
}

// Actors says who wrote the newest events, and at whose request, each in order.
func Actors(ctx context.Context, r Reader) (actors, users []string, err error) {
	q := Query{First: r.Folded() - min(r.Folded(), recent) + 1, Bare: true}
	for e, err := range r.Events(ctx, q) {
		if err != nil {
			return nil, nil, err
		}
		actors, users = append(actors, e.Actor.String()), append(users, e.User)
	}
	return named(actors), named(users), nil
}

// named are the names among some, each once.
func named(names []string) []string {
	slices.Sort(names)
	names = slices.Compact(names)
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}
