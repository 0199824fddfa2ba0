package api

import (
	"context"
	"sync"

	"github.com/google/uuid"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// rights remembers what the authorizer has allowed, until a rule changes by which it
// judges: it goes through all that is bound to anybody, each time.
type rights struct {
	authorizer authorizer.UnconditionalAuthorizer

	mu      sync.Mutex
	changes uint64 // of the rules
	allowed map[right]struct{}
}

// right is to do something to all objects of a resource in a namespace.
type right struct{ user, verb, group, resource, subresource, namespace string }

// maxRights is how many are remembered: more than controllers have namespaces at work.
const maxRights = 4096

// rightsBy returns what remembers what a judges by roles and their bindings, which it has
// from the informers: these tell of a change when a judges by it already. Who is judged by
// anything else must not be asked for.
func rightsBy(a authorizer.UnconditionalAuthorizer, f informers.SharedInformerFactory) (*rights, error) {
	r := &rights{authorizer: a, allowed: map[right]struct{}{}}
	changed := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { r.forget() },
		UpdateFunc: func(any, any) { r.forget() },
		DeleteFunc: func(any) { r.forget() },
	}
	rules := f.Rbac().V1()
	for _, i := range []cache.SharedIndexInformer{
		rules.Roles().Informer(), rules.RoleBindings().Informer(), rules.ClusterRoles().Informer(), rules.ClusterRoleBindings().Informer(),
	} {
		if _, err := i.AddEventHandler(changed); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *rights) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes++
	clear(r.allowed)
}

// Authorize implements authorizer.UnconditionalAuthorizer.
func (r *rights) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	asked := right{a.GetUser().GetName(), a.GetVerb(), a.GetAPIGroup(), a.GetResource(), a.GetSubresource(), a.GetNamespace()}
	r.mu.Lock()
	_, known := r.allowed[asked]
	changes := r.changes
	r.mu.Unlock()
	if known {
		return authorizer.DecisionAllow, "as before", nil
	}
	decision, reason, err := r.authorizer.Authorize(ctx, toAny{a})
	if decision != authorizer.DecisionAllow {
		return r.authorizer.Authorize(ctx, a)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changes == changes {
		if len(r.allowed) >= maxRights {
			clear(r.allowed) // Who asks now is at work; those before may be gone.
		}
		r.allowed[asked] = struct{}{}
	}
	return decision, reason, err
}

// toAny is the question whether somebody may do something to any object: to one of a name
// that nobody knows. Of no name rules may speak, too.
type toAny struct{ authorizer.Attributes }

var unknown = uuid.NewString()

// GetName implements authorizer.Attributes.
func (q toAny) GetName() string {
	if q.Attributes.GetName() == "" {
		return ""
	}
	return unknown
}
