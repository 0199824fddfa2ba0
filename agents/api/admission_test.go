package api

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/kubernetes/pkg/api/legacyscheme"

	"github.com/reprise-run/reprise/agents/api/storage/storagetest"
	"github.com/reprise-run/reprise/events"
)

// plugin counts how often it is asked.
type plugin struct{ admitted, validated int }

func (p *plugin) Handles(admission.Operation) bool { return true }

func (p *plugin) Admit(context.Context, admission.Attributes, admission.ObjectInterfaces) error {
	p.admitted++
	return nil
}

func (p *plugin) Validate(context.Context, admission.Attributes, admission.ObjectInterfaces) error {
	p.validated++
	return nil
}

// Each plugin judges each command, and upstream's metrics are for those from outside.
func TestPluginsAreTimedForOthers(t *testing.T) {
	var bare, measured plugin
	p := timed{&bare, &measured}
	judge := func(ctx context.Context) {
		if err := p.Admit(ctx, nil, nil); err != nil {
			t.Error(err)
		}
		if err := p.Validate(ctx, nil, nil); err != nil {
			t.Error(err)
		}
	}
	judge(t.Context())
	if want := (plugin{1, 1}); bare != (plugin{}) || measured != want {
		t.Errorf("a request from outside: %v, %v", bare, measured)
	}
	judge(inside(t.Context(), admin, "create", events.Ref{Resource: "pods", Namespace: "shop", Name: "web-1"}))
	if want := (plugin{1, 1}); bare != want || measured != want {
		t.Errorf("then a command: %v, %v", bare, measured)
	}
}

// A plugin is asked when there is an object by which it judges, in the namespace if there
// it holds, and each table entry names a resource that there is.
func TestPluginsAreAskedByRules(t *testing.T) {
	resources := map[schema.GroupResource]bool{}
	for kind := range legacyscheme.Scheme.AllKnownTypes() {
		of, _ := meta.UnsafeGuessKindToResource(kind)
		resources[of.GroupResource()] = true
	}
	log := storagetest.NewLog(t, false)
	for name, by := range rules {
		if !resources[schema.GroupResource{Group: by.group, Resource: by.resource}] {
			t.Errorf("%s is asked if there are %s.%s, and there never are", name, by.resource, by.group)
		}
		var asked plugin
		p := ruled{&asked, log.Live, by}
		judge := func(namespace string, want int) {
			t.Helper()
			a := admission.NewAttributesRecord(nil, nil, podKind, namespace, "web-1", podResource, "", admission.Create, nil, false, admin)
			if err := errors.Join(p.Admit(t.Context(), a, nil), p.Validate(t.Context(), a, nil)); err != nil {
				t.Error(err)
			}
			if asked.admitted != want || asked.validated != want {
				t.Errorf("%s was asked %d and %d times, want %d", name, asked.admitted, asked.validated, want)
			}
		}
		judge("shop", 0)
		ref := events.Ref{Group: by.group, Resource: by.resource, Name: "a"}
		if by.namespaced {
			ref.Namespace = "shop"
		}
		log.Command(t, ref, "u-"+by.resource, nil, fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Rule","metadata":{"name":"a","uid":"u-%s"}}`, by.resource))
		judge("shop", 1)
		if by.namespaced {
			judge("elsewhere", 1)
		} else {
			judge("elsewhere", 2)
		}
	}
}

// A change of a rule is heard of, whichever kind of rule it is.
func TestRightsEndWithTheRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		f := informers.NewSharedInformerFactory(client, 0)
		defer f.Shutdown()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		allow := authorizer.AuthorizerFunc(func(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
			return authorizer.DecisionAllow, "", nil
		})
		r, err := rightsBy(allow, f)
		if err != nil {
			t.Fatal(err)
		}
		f.StartWithContext(ctx)
		f.WaitForCacheSync(ctx.Done())
		rules, named, global := client.RbacV1(), metav1.ObjectMeta{Name: "a", Namespace: "shop"}, metav1.ObjectMeta{Name: "a"}
		for kind, change := range map[string]func() error{
			"role": func() error {
				_, err := rules.Roles("shop").Create(ctx, &rbacv1.Role{ObjectMeta: named}, metav1.CreateOptions{})
				return err
			},
			"role binding": func() error {
				_, err := rules.RoleBindings("shop").Create(ctx, &rbacv1.RoleBinding{ObjectMeta: named}, metav1.CreateOptions{})
				return err
			},
			"cluster role": func() error {
				_, err := rules.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: global}, metav1.CreateOptions{})
				return err
			},
			"cluster role binding": func() error {
				_, err := rules.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: global}, metav1.CreateOptions{})
				return err
			},
		} {
			ask := authorizer.AttributesRecord{User: admin, Verb: "create", Resource: "pods"}
			if _, _, err := r.Authorize(ctx, ask); err != nil || len(r.allowed) != 1 {
				t.Fatalf("%d are remembered, %v", len(r.allowed), err)
			}
			if err := change(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if len(r.allowed) != 0 {
				t.Errorf("a new %s has changed nothing", kind)
			}
		}
	})
}
