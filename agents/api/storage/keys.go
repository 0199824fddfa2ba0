package storage

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/reprise-run/reprise/events"
)

// Keys translates between the keys under which upstream's registries store
// objects and the references under which the log files them. The two are one to
// one for every object that has a key of the usual form:
//
//	/registry/<resource's prefix>/[<namespace>/]<name>
//
// A resource's prefix is its plural, for most of the built-in ones; something
// else for a few (nodes are "minions"); and <group>/<plural> for what comes from
// a CustomResourceDefinition or an aggregated registry. A prefix that is unknown
// stands for a resource of that name in the core group: such are the master
// leases and the port and address allocations, which are no API resources.
type Keys struct {
	root     string
	byPrefix map[string]schema.GroupResource
	prefixes map[schema.GroupResource]string
}

// NewKeys takes the root of all keys, such as "/registry", and the prefix of
// each built-in resource below it. Where several resources share one prefix,
// because the same objects are served in several groups, the first group by name
// is the one that the log knows them by; the core group comes first.
func NewKeys(root string, prefixes map[schema.GroupResource]string) *Keys {
	k := &Keys{
		root:     strings.TrimSuffix("/"+strings.Trim(root, "/"), "/") + "/",
		byPrefix: map[string]schema.GroupResource{},
		prefixes: maps.Clone(prefixes),
	}
	resources := slices.SortedFunc(maps.Keys(prefixes), func(a, b schema.GroupResource) int {
		return ref(a).Compare(ref(b))
	})
	for _, r := range resources {
		if _, taken := k.byPrefix[prefixes[r]]; !taken {
			k.byPrefix[prefixes[r]] = r
		}
	}
	return k
}

func ref(r schema.GroupResource) events.Ref {
	return events.Ref{Group: r.Group, Resource: r.Resource}
}

// Key is the key of an object.
func (k *Keys) Key(r events.Ref) string {
	var b strings.Builder
	b.WriteString(k.root)
	prefix, known := k.prefixes[schema.GroupResource{Group: r.Group, Resource: r.Resource}]
	if !known {
		prefix = r.Resource
		if r.Group != "" {
			prefix = r.Group + "/" + r.Resource
		}
	}
	b.WriteString(prefix)
	if r.Namespace != "" {
		b.WriteByte('/')
		b.WriteString(r.Namespace)
	}
	b.WriteByte('/')
	b.WriteString(r.Name)
	return b.String()
}

// Ref is the object that a key names, or the resource, without a name, if the
// key is that of the resource itself. It says false if the key is neither.
func (k *Keys) Ref(key string) (events.Ref, bool) {
	r, rest, ok := k.resource(key)
	if !ok {
		return events.Ref{}, false
	}
	switch len(rest) {
	case 0:
	case 1:
		r.Name = rest[0]
	default:
		r.Namespace = rest[0]
		r.Name = strings.Join(rest[1:], "/")
	}
	return r, true
}

// Scope is what a listing or a watch of all keys below a prefix covers: the
// objects of a resource, in one namespace if the reference has one. Below the key
// of an object there is nothing: then the reference has a name that none has. It
// says false if the prefix is that of no resource.
func (k *Keys) Scope(prefix string) (events.Ref, bool) {
	r, rest, ok := k.resource(strings.TrimSuffix(prefix, "/"))
	if !ok || !strings.HasSuffix(prefix, "/") {
		return events.Ref{}, false
	}
	if len(rest) > 0 {
		r.Namespace = rest[0]
	}
	if len(rest) > 1 {
		r.Name = strings.Join(rest[1:], "/") + "/"
	}
	return r, true
}

// resource splits a key into its resource and what follows.
func (k *Keys) resource(key string) (events.Ref, []string, bool) {
	path, ok := strings.CutPrefix(key, k.root)
	if !ok || path == "" {
		return events.Ref{}, nil, false
	}
	parts := strings.Split(path, "/")
	if len(parts) > 1 {
		if r, ok := k.byPrefix[parts[0]+"/"+parts[1]]; ok {
			return ref(r), parts[2:], true
		}
	}
	if r, ok := k.byPrefix[parts[0]]; ok {
		return ref(r), parts[1:], true
	}
	if strings.Contains(parts[0], ".") && len(parts) > 1 {
		return events.Ref{Group: parts[0], Resource: parts[1]}, parts[2:], true
	}
	return events.Ref{Resource: parts[0]}, parts[1:], true
}
