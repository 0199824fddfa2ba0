package events_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/reprise-run/reprise/events"
)

func TestEveryRuleIsComplete(t *testing.T) {
	type key struct{ typ, resource, writer string }
	seen := map[key]bool{}
	effects := map[key]events.Rule{}
	for _, r := range events.Rules() {
		name := r.Type + " on " + r.Resource
		noun, fact, ok := strings.Cut(r.Type, ".")
		if !ok || noun == "" || fact == "" || strings.ToLower(r.Type) != r.Type {
			t.Errorf("%s: a type is <noun>.<fact> in lower case", name)
		}
		if r.Resource == "" || len(r.Writers) == 0 || r.Doc == "" || !strings.HasSuffix(r.Doc, ".") {
			t.Errorf("%s: a rule has a resource, writers and a doc that is a sentence", name)
		}
		for _, w := range r.Writers {
			if k := (key{r.Type, r.Resource, w}); seen[k] {
				t.Errorf("%s has two rules for %s", name, w)
			} else {
				seen[k] = true
			}
		}
		k := key{r.Type, r.Resource, ""}
		if o, ok := effects[k]; ok && (o.Effect != r.Effect || o.Optional != r.Optional) {
			t.Errorf("%s has rules that differ in effect or optional", name)
		}
		effects[k] = r
		for _, p := range r.Paths {
			if !strings.HasPrefix(p, "/") || r.Effect != events.Changes {
				t.Errorf("%s: path %q is not a JSON pointer, or the type is none that patches", name, p)
			}
		}
		if r.Needs != "" && !slices.Contains([]string{"add", "remove", "replace"}, strings.Fields(r.Needs)[0]) {
			t.Errorf("%s needs %q, which is no operation", name, r.Needs)
		}
	}
}
