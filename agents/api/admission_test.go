package api

import (
	"context"
	"testing"
	"testing/synctest"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

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
