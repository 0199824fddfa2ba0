package history

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Name is an object, or all objects of a kind, as a person names them:
//
//	2f0c6a0e-8d1b-...   a uid
//	pod/web-1           a kind and a name
//	pods/shop/web-1     a kind, a namespace and a name, as the log names objects
//	web-1               a name alone, if only one kind of object bears it
//	pods                a kind alone: all of its objects
//
// A kind is written as kubectl takes it: plural, singular, short, or with its
// group: deployments.apps.
type Name struct {
	Text string
	// Namespace is where the person works. If it was not asked for it is merely
	// the first to look in.
	Namespace string
	Asked     bool
}

// uidPattern matches the uids of objects.
var uidPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// Find says whose events a name asks for, also if they are gone: of what the
// query returned has, Object or UID stands for one object, and Resource and
// Namespace for those of a kind. A name that no object ever bore, or that several
// bear, is refused with those that come near.
func Find(ctx context.Context, r Reader, n Name) (Query, error) {
	if uidPattern.MatchString(n.Text) {
		ref, ok, err := r.ObjectOf(n.Text)
		if err == nil && !ok {
			err = fmt.Errorf("there never was an object with the uid %s", n.Text)
		}
		return Query{Object: ref, UID: n.Text}, err
	}
	all, err := r.Resources(ctx)
	if err != nil {
		return Query{}, err
	}
	kind, rest, sliced := strings.Cut(n.Text, "/")
	switch of, err := ofKind(ctx, r, all, kind); {
	case err != nil:
		return Query{}, err
	case !sliced && len(of) == 1:
		return Query{Resource: of[0].GroupResource(), Namespace: n.asked()}, nil
	case !sliced && len(of) > 1:
		return Query{}, fmt.Errorf("%q may be one of %s; say which", kind, listed(of, events.Ref.GroupResource))
	case !sliced:
		return findNamed(ctx, r, all, n.Text, n, "")
	case kind == "" || rest == "" || strings.Count(rest, "/") > 1 || strings.HasPrefix(rest, "/") || strings.HasSuffix(rest, "/"):
		return Query{}, fmt.Errorf("%q names no object: say for example pod/web-1, deployments.apps/shop/web or a uid", n.Text)
	case len(of) == 0:
		return Query{}, fmt.Errorf("there never was an object of a kind %q; the log has %s", kind, listed(all, events.Ref.GroupResource))
	default:
		if in, bare, ok := strings.Cut(rest, "/"); ok {
			n.Namespace, n.Asked, rest = in, true, bare
		}
		return findNamed(ctx, r, of, rest, n, kind)
	}
}

// asked is the namespace to look in, empty for all.
func (n Name) asked() string {
	if n.Asked {
		return n.Namespace
	}
	return ""
}

// findNamed looks for objects of some resources that bore a name.
func findNamed(ctx context.Context, r Reader, of []events.Ref, name string, n Name, kind string) (Query, error) {
	var found, here []events.Ref
	for _, resource := range of {
		refs, err := r.Named(ctx, resource.Group, resource.Resource, name)
		if err != nil {
			return Query{}, err
		}
		found = append(found, refs...)
	}
	for _, ref := range found {
		if ref.Namespace == n.Namespace || ref.Namespace == "" {
			here = append(here, ref)
		}
	}
	if n.Asked || len(here) == 1 && kind != "" {
		switch {
		case len(here) == 1:
			return Query{Object: here[0]}, nil
		case len(here) == 0 && len(found) > 0:
			return Query{}, fmt.Errorf("there never was %s in the namespace %s; of that name there is or was %s", object(kind, name), n.Namespace, listed(found, events.Ref.String))
		case len(here) > 1:
			found = here
		}
	}
	switch len(found) {
	case 0:
		if n.Asked {
			return Query{}, fmt.Errorf("there never was %s in the namespace %s, or in any other", object(kind, name), n.Namespace)
		}
		return Query{}, fmt.Errorf("there never was %s", object(kind, name))
	case 1:
		return Query{Object: found[0]}, nil
	}
	return Query{}, fmt.Errorf("several objects are or were named %s: %s; say which, as %s", name, listed(found, events.Ref.String), found[0])
}

func object(kind, name string) string {
	if kind == "" {
		return fmt.Sprintf("an object or a kind %q", name)
	}
	return "an object " + kind + "/" + name
}

// most is how many candidates an answer lists.
const most = 12

func listed(refs []events.Ref, as func(events.Ref) string) string {
	var names []string
	for _, ref := range refs[:min(most, len(refs))] {
		names = append(names, as(ref))
	}
	if more := len(refs) - most; more > 0 {
		return strings.Join(names, ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(names, ", ")
}

// ofKind finds the resources that a kind may mean, among those that the log has
// had objects of.
func ofKind(ctx context.Context, r Reader, all []events.Ref, kind string) ([]events.Ref, error) {
	word, group, grouped := strings.Cut(strings.ToLower(kind), ".")
	words := []string{word, plural(word), shortNames[word]}
	var found []events.Ref
	for _, resource := range all {
		if grouped && group != resource.Group {
			continue
		}
		named := slices.Contains(words, resource.Resource)
		if !named {
			var err error
			if named, err = definedAs(ctx, r, resource, word); err != nil {
				return nil, err
			}
		}
		if named {
			found = append(found, resource)
		}
	}
	// What is exactly so called, or belongs to the core, goes before the rest.
	for _, first := range []func(events.Ref) bool{
		func(r events.Ref) bool { return r.GroupResource() == strings.ToLower(kind) },
		func(r events.Ref) bool { return r.Group == "" },
	} {
		if i := slices.IndexFunc(found, first); i >= 0 {
			return found[i : i+1], nil
		}
	}
	return found, nil
}

// definedAs says whether a word is a name that the definition of a custom resource
// gives it, or last gave it: the objects may have outlived it, and their history does.
func definedAs(ctx context.Context, r Reader, resource events.Ref, word string) (bool, error) {
	if !strings.Contains(resource.Group, ".") {
		return false, nil // Groups of definitions have a dot.
	}
	e, err := atLast(ctx, r, events.Ref{Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions", Name: resource.GroupResource()})
	if err != nil || e == nil {
		return false, err
	}
	text := func(name string) string {
		s, _ := events.Text(events.Lookup(e.Raw, "spec", "names", name))
		return s
	}
	short := events.Lookup(e.Raw, "spec", "names", "shortNames")
	return word == text("singular") || word == strings.ToLower(text("kind")) || strings.Contains(string(short), `"`+word+`"`), nil
}

// atLast is an object as it is, or as it was before it went, nil if there was none.
func atLast(ctx context.Context, r Reader, ref events.Ref) (*projections.Entry, error) {
	e, err := r.At(ref, r.Folded())
	if e != nil || err != nil {
		return e, err
	}
	for gone, err := range r.Events(ctx, Query{Object: ref, Backward: true, Limit: 1, Bare: true}) {
		if err != nil {
			return nil, err
		}
		return r.At(ref, gone.Sequence-1)
	}
	return nil, nil
}

// plural is how Kubernetes makes a resource's name of a kind.
func plural(word string) string {
	switch {
	case strings.HasSuffix(word, "endpoints"):
		return word
	case strings.HasSuffix(word, "s"):
		return word + "es"
	case strings.HasSuffix(word, "y") && !strings.HasSuffix(word, "ey"):
		return strings.TrimSuffix(word, "y") + "ies"
	}
	return word + "s"
}

// shortNames are those that upstream gives its resources.
var shortNames = map[string]string{
	"cj": "cronjobs", "cm": "configmaps", "crd": "customresourcedefinitions", "crds": "customresourcedefinitions",
	"csr": "certificatesigningrequests", "deploy": "deployments", "ds": "daemonsets", "ep": "endpoints", "ev": "events",
	"hpa": "horizontalpodautoscalers", "ing": "ingresses", "limits": "limitranges", "netpol": "networkpolicies", "no": "nodes",
	"ns": "namespaces", "pc": "priorityclasses", "pdb": "poddisruptionbudgets", "po": "pods", "pv": "persistentvolumes",
	"pvc": "persistentvolumeclaims", "quota": "resourcequotas", "rc": "replicationcontrollers", "rs": "replicasets",
	"sa": "serviceaccounts", "sc": "storageclasses", "sts": "statefulsets", "svc": "services",
}
