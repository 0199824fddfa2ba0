package api

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kubernetes/pkg/apis/core"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
)

// mutation is admission that changes pods.
type mutation func(ctx context.Context, pod *core.Pod) error

func (m mutation) Handles(admission.Operation) bool { return true }

func (m mutation) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	return m(ctx, a.GetObject().(*core.Pod))
}

// registry keeps what it is to create.
type registry struct{ made *core.Pod }

func (r *registry) New() runtime.Object { return &core.Pod{} }

func (r *registry) Create(_ context.Context, o runtime.Object, _ rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	r.made = o.(*core.Pod)
	return o, nil
}

// quickly creates a pod by the short way, through admission that is m.
func quickly(t *testing.T, m mutation) (*core.Pod, error) {
	t.Helper()
	allow := authorizer.AuthorizerFunc(func(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
		return authorizer.DecisionAllow, "", nil
	})
	r := &registry{}
	l := &lane{authorizer: allow, admission: m, pods: r, codec: podCodec}
	of := &mould{manager: "controller:replicaset", pod: &core.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace:       "shop",
		OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web", UID: "u-web", Controller: new(true)}},
	}}}
	c := runner.Command{Verb: runner.Create, Object: events.Ref{Resource: "pods", Namespace: "shop", Name: "web-1"}}
	done, err := l.create(t.Context(), admin, of, c)
	if !done {
		t.Fatal("the creation went another way")
	}
	return r.made, err
}

// A creation that hangs ends when upstream's handler would end it, and is tried again.
func TestCreationsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := quickly(t, func(ctx context.Context, _ *core.Pod) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Hour):
				return nil
			}
		})
		if took := time.Since(start); !apierrors.IsTimeout(err) || took != longest {
			t.Errorf("ended after %s: %v", took, err)
		}
	})
}

// Owners that admission adds are there once, as if the pod had come by a request.
func TestCreationsHaveEachOwnerOnce(t *testing.T) {
	pod, err := quickly(t, func(_ context.Context, pod *core.Pod) error {
		again := *pod.OwnerReferences[0].DeepCopy()
		other := *again.DeepCopy()
		other.Controller = nil // not the same, though it has the UID
		pod.OwnerReferences = append(pod.OwnerReferences, other, again, other)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if o := pod.OwnerReferences; len(o) != 2 || o[0].Controller == nil || o[1].Controller != nil {
		t.Errorf("the owners are %v", o)
	}
}
