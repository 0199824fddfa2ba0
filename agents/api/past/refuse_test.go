package past_test

import (
	"strings"
	"testing"

	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/reprise-run/reprise/agents/api/past"
)

// TestRefusalsNameTheObject reads what a person is told who tries to write.
func TestRefusalsNameTheObject(t *testing.T) {
	for want, info := range map[string]request.RequestInfo{
		"(delete namespaces/shop);":          {Verb: "delete", Resource: "namespaces", Namespace: "shop", Name: "shop"},
		"(update namespaces/shop/finalize);": {Verb: "update", Resource: "namespaces", Namespace: "shop", Name: "shop", Subresource: "finalize"},
		"(create namespaces);":               {Verb: "create", Resource: "namespaces"},
		"(patch nodes/n1);":                  {Verb: "patch", Resource: "nodes", Name: "n1"},
		"(create pods/shop/web-1/eviction);": {Verb: "create", Resource: "pods", Namespace: "shop", Name: "web-1", Subresource: "eviction"},
		": pods/shop/web-1 has no log here,": {Verb: "get", Resource: "pods", Namespace: "shop", Name: "web-1", Subresource: "log"},
	} {
		info.IsResourceRequest = true
		if err := past.Refusal(&info, past.Moment{Sequence: 812}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, and not %s", err, want)
		}
	}
}
