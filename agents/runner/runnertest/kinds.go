package runnertest

import (
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	// The kinds that transcripts may speak of, with the defaults of the API.
	_ "k8s.io/kubernetes/pkg/apis/admissionregistration/install"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/coordination/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	_ "k8s.io/kubernetes/pkg/apis/discovery/install"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	_ "k8s.io/kubernetes/pkg/apis/rbac/install"
	_ "k8s.io/kubernetes/pkg/apis/scheduling/install"
	_ "k8s.io/kubernetes/pkg/apis/storage/install"

	"github.com/reprise-run/reprise/events"
)

// kind is one kind of the Kubernetes API, in its preferred version.
type kind struct {
	gvk      schema.GroupVersionKind
	resource string
}

// kindOf finds a kind by a name such as "replicaset" or "replicasets".
func kindOf(word string) (kind, error) {
	var found *kind
	for _, gv := range legacyscheme.Scheme.PrioritizedVersionsAllGroups() {
		for name := range legacyscheme.Scheme.KnownTypes(gv) {
			plural, singular := meta.UnsafeGuessKindToResource(gv.WithKind(name))
			if !strings.EqualFold(word, singular.Resource) && !strings.EqualFold(word, plural.Resource) {
				continue
			}
			if found == nil || (gv.Group == "" && found.gvk.Group != "") {
				found = &kind{gv.WithKind(name), plural.Resource}
			}
		}
	}
	if found == nil {
		return kind{}, fmt.Errorf("no such kind: %q", word)
	}
	return *found, nil
}

// complete turns a document into what the API would store: decoded strictly,
// defaulted and in canonical form. Kinds that the API does not have by itself
// stay as they are.
func complete(gvk schema.GroupVersionKind, doc map[string]any) ([]byte, error) {
	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	if legacyscheme.Scheme.Recognizes(gvk) {
		o, err := legacyscheme.Scheme.New(gvk)
		if err != nil {
			return nil, err
		}
		dec := json.NewDecoder(strings.NewReader(string(raw)))
		dec.DisallowUnknownFields()
		if err := dec.Decode(o); err != nil {
			return nil, fmt.Errorf("not a proper %s: %w", gvk.Kind, err)
		}
		legacyscheme.Scheme.Default(o)
		if raw, err = json.Marshal(o); err != nil {
			return nil, err
		}
	}
	return events.Canonical(raw)
}

// counted says whether the API counts changes of the spec in
// metadata.generation for objects of this resource.
func counted(ref events.Ref) bool {
	switch ref.Group {
	case "":
		return ref.Resource == "pods"
	case "apps", "batch", "policy", "networking.k8s.io":
		return true
	}
	return false
}
