// Package costs tells from a CPU profile of a Reprise server which of its parts
// takes how much. A sample belongs to the part whose function is innermost on its
// stack, so that what a library does counts for who called it, and what the
// collector of garbage does, which nobody calls, is a part of its own.
package costs

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

// Part is how much of the CPU time one part takes.
type Part struct {
	Name  string  `json:"name"`
	Share float64 `json:"share"`
}

// rule names a part by what its functions begin with.
type rule struct {
	part     string
	prefixes []string
}

const ours = "github.com/reprise-run/reprise/"

// anywhere are looked for on the whole stack before all else: what they call
// belongs to them, whatever it is.
var anywhere = []rule{
	{"garbage collection", []string{"runtime.gcBgMarkWorker", "runtime.gcAssistAlloc", "runtime.bgsweep", "runtime.bgscavenge", "runtime.gcStart", "runtime.deductAssistCredit"}},
	{"JetStream: the log's server", []string{"github.com/nats-io/nats-server/"}},
	{"managedFields", []string{"k8s.io/apimachinery/pkg/util/managedfields", "sigs.k8s.io/structured-merge-diff/", "k8s.io/apiserver/pkg/endpoints/handlers/fieldmanager"}},
	{"projection on disk", []string{ours + "projections/pebble", "github.com/cockroachdb/pebble/"}},
	{"secrets: seal and reveal", []string{ours + "agents/api/seal"}},
	{"watch caches: decode and keep", []string{"k8s.io/apiserver/pkg/storage/etcd3.(*watchChan)", "k8s.io/apiserver/pkg/storage/etcd3.(*concurrentOrderedEventProcessing)",
		"k8s.io/apiserver/pkg/storage/etcd3.decodeObj", "k8s.io/apiserver/pkg/storage/cacher.(*Cacher)", "k8s.io/apiserver/pkg/storage/cacher.(*watchCache)", ours + "agents/api/storage.(*watch"}},
	{"watches of clients: encode and send", []string{"k8s.io/apiserver/pkg/endpoints/handlers.(*WatchServer)", "k8s.io/apiserver/pkg/endpoints/handlers.handleWatch", "k8s.io/apiserver/pkg/storage/cacher.(*cacheWatcher)",
		ours + "agents/api/watchers.(*queue)", ours + "agents/api/watchers.(*feed)"}},
}

// innermost are looked for from the leaf of the stack to its root.
var innermost = []rule{
	{"admission", []string{"k8s.io/apiserver/pkg/admission", "k8s.io/kubernetes/plugin/pkg/admission", "k8s.io/apiserver/pkg/authentication/serviceaccount"}},
	{"committer", []string{ours + "events/committer", ours + "events/jetstream"}},
	{"fold in memory", []string{ours + "projections/live", ours + "projections.(*State)"}},
	{"decode for who decides", []string{ours + "projections.As"}},
	{"scheduler", []string{ours + "agents/scheduler", "k8s.io/component-helpers/scheduling"}},
	{"controllers", []string{ours + "agents/controllers"}},
	{"runner: what concerns whom, and when", []string{ours + "agents/runner"}},
	{"feed of the nodes", []string{ours + "agents/bus"}},
	{"storage of the API: event from old and new", []string{ours + "agents/api/storage", "k8s.io/apiserver/pkg/storage/"}},
	{"informers inside the API server", []string{"k8s.io/client-go/"}},
	{"authentication and authorization", []string{"k8s.io/apiserver/pkg/authentication", "k8s.io/apiserver/pkg/endpoints/filters.withAuthentication", "k8s.io/apiserver/pkg/authorization",
		"k8s.io/kubernetes/plugin/pkg/auth", "k8s.io/kubernetes/pkg/registry/rbac", "k8s.io/apiserver/plugin/pkg/authenticator"}},
	{"registry: defaults, validation, strategy", []string{"k8s.io/apiserver/pkg/registry", "k8s.io/kubernetes/pkg/"}},
	{"API requests: routes, filters, decode, encode", []string{"k8s.io/apiserver/", "k8s.io/kube-aggregator/", "k8s.io/apiextensions-apiserver/", "github.com/emicklei/", "net/http", "golang.org/x/net/http2", "k8s.io/kube-openapi", "crypto/tls"}},
	{"gate: commands of our own", []string{ours + "agents/api"}},
	{"NATS client", []string{"github.com/nats-io/nats.go"}},
}

// Of reads a profile and returns its parts, the largest first.
func Of(r io.Reader) ([]Part, error) {
	p, err := profile.Parse(r)
	if err != nil {
		return nil, fmt.Errorf("cannot read the profile: %w", err)
	}
	value := len(p.SampleType) - 1 // nanoseconds; before it come counts
	total, parts := 0.0, map[string]float64{}
	for _, s := range p.Sample {
		took := float64(s.Value[value])
		parts[partOf(stack(s))] += took
		total += took
	}
	var out []Part
	for name, took := range parts {
		out = append(out, Part{name, took / total})
	}
	slices.SortFunc(out, func(a, b Part) int { return cmp.Or(cmp.Compare(b.Share, a.Share), cmp.Compare(a.Name, b.Name)) })
	return out, nil
}

// stack lists the functions of a sample from the leaf to the root.
func stack(s *profile.Sample) (names []string) {
	for _, location := range s.Location {
		for _, line := range location.Line {
			names = append(names, line.Function.Name)
		}
	}
	return names
}

func partOf(names []string) string {
	for _, r := range anywhere {
		if slices.ContainsFunc(names, r.covers) {
			return r.part
		}
	}
	for _, name := range names {
		for _, r := range innermost {
			if r.covers(name) {
				return r.part
			}
		}
	}
	if slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, ours) }) {
		return "the rest of Reprise"
	}
	return "Go's own scheduler and system calls"
}

func (r rule) covers(name string) bool {
	return slices.ContainsFunc(r.prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}
