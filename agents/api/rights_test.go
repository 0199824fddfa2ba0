package api

import (
	"context"
	"strconv"
	"testing"

	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// judge allows what it has, and counts how often it was asked.
type judge struct {
	may   map[right]string // to which object; "" for any
	asked int
}

func (j *judge) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	j.asked++
	name, may := j.may[right{a.GetUser().GetName(), a.GetVerb(), a.GetAPIGroup(), a.GetResource(), a.GetSubresource(), a.GetNamespace()}]
	if may && (name == "" || name == a.GetName()) {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

// A right is asked for once, until a rule changes, and stands for no other.
func TestRightsAreRemembered(t *testing.T) {
	anyPod := right{admin.Name, "delete", "", "pods", "", "shop"}
	onePod := right{admin.Name, "delete", "", "pods", "", "store"}
	j := &judge{may: map[right]string{anyPod: "", onePod: "web-1"}}
	r := &rights{authorizer: j, allowed: map[right]struct{}{}}
	steps := []struct {
		namespace, verb, name string
		allowed               bool
		asked                 int
	}{
		{"shop", "delete", "web-1", true, 1},
		{"shop", "delete", "web-2", true, 0},
		{"shop", "create", "", false, 2},
		{"store", "delete", "web-1", true, 2},
		{"store", "delete", "web-2", false, 2},
		{"store", "delete", "web-1", true, 2}, // of one object it is not remembered
	}
	ask := func(namespace, verb, name string) bool {
		decision, _, err := r.Authorize(t.Context(), authorizer.AttributesRecord{User: admin, Verb: verb, Resource: "pods", Namespace: namespace, Name: name, ResourceRequest: true})
		if err != nil {
			t.Fatal(err)
		}
		return decision == authorizer.DecisionAllow
	}
	for _, s := range steps {
		j.asked = 0
		if got := ask(s.namespace, s.verb, s.name); got != s.allowed || j.asked != s.asked {
			t.Errorf("%s %s/%s: %t after %d questions", s.verb, s.namespace, s.name, got, j.asked)
		}
	}
	delete(j.may, anyPod)
	r.forget()
	if ask("shop", "delete", "web-2") {
		t.Error("a right that was taken away is still there")
	}
}

// What was judged while a rule changed is not remembered.
func TestRightsJudgedByFormerRules(t *testing.T) {
	r := &rights{allowed: map[right]struct{}{}}
	r.authorizer = authorizer.AuthorizerFunc(func(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
		r.forget()
		return authorizer.DecisionAllow, "", nil
	})
	if _, _, err := r.Authorize(t.Context(), authorizer.AttributesRecord{User: admin, Verb: "create", Resource: "pods"}); err != nil || len(r.allowed) != 0 {
		t.Errorf("%d are remembered, %v", len(r.allowed), err)
	}
}

// Who may delete what has no name, as a rule can say, may not delete what has one.
func TestNoNameIsNotAnyName(t *testing.T) {
	r := &rights{allowed: map[right]struct{}{}}
	r.authorizer = authorizer.AuthorizerFunc(func(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
		if a.GetName() == "" {
			return authorizer.DecisionAllow, "", nil
		}
		return authorizer.DecisionNoOpinion, "", nil
	})
	ask := authorizer.AttributesRecord{User: admin, Verb: "delete", Resource: "pods", Name: "web-1", ResourceRequest: true}
	if decision, _, err := r.Authorize(t.Context(), ask); decision != authorizer.DecisionNoOpinion || err != nil {
		t.Errorf("%v, %v", decision, err)
	}
}

// However many rights have been remembered, of namespaces and nodes that are gone too,
// the next one is.
func TestRightsHaveRoom(t *testing.T) {
	j := &judge{may: map[right]string{}}
	r := &rights{authorizer: j, allowed: map[right]struct{}{}}
	for n := range maxRights + 1 {
		ask := authorizer.AttributesRecord{User: admin, Verb: "create", Resource: "pods", Namespace: strconv.Itoa(n), ResourceRequest: true}
		j.may[right{admin.Name, "create", "", "pods", "", ask.Namespace}] = ""
		for range 2 {
			if _, _, err := r.Authorize(t.Context(), ask); err != nil {
				t.Fatal(err)
			}
		}
	}
	if j.asked != maxRights+1 || len(r.allowed) > maxRights {
		t.Errorf("%d questions, %d are remembered", j.asked, len(r.allowed))
	}
}
