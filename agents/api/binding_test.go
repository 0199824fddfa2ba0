package api

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	podstorage "k8s.io/kubernetes/pkg/registry/core/pod/storage"

	"github.com/reprise-run/reprise/agents/api/storage"
	"github.com/reprise-run/reprise/agents/api/storage/storagetest"
	"github.com/reprise-run/reprise/agents/api/upstream"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// beforeDeletion is admission that does something before it lets a deletion pass.
type beforeDeletion func()

func (beforeDeletion) Handles(o admission.Operation) bool { return o == admission.Delete }

func (b beforeDeletion) Validate(context.Context, admission.Attributes, admission.ObjectInterfaces) error {
	b()
	return nil
}

// A pod that is bound while it is being deleted has the grace of one that is bound:
// something of it may run by now.
func TestBoundWhileDeleted(t *testing.T) {
	log := storagetest.NewLog(t, false)
	backend, err := storage.New(t.Context(), storage.Options{
		History: log.Source(), Volatile: storagetest.NewLog(t, true).Source(), Keys: upstream.Keys(), Actor: events.Actor{Kind: "api"},
	})
	if err != nil {
		t.Fatal(err)
	}
	options := generic.RESTOptions{StorageConfig: &storagebackend.ConfigForResource{}, ResourcePrefix: "/pods"}
	stored, err := podstorage.NewStorage(directly{options, backend}, nil, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	pod := events.Ref{Resource: "pods", Namespace: "shop", Name: "web"}
	revision, made, err := backend.Create(t.Context(), pod, document("web", "u1", ""))
	if err != nil || !made {
		t.Fatalf("made: %v, %v", made, err)
	}
	asked := 0
	bind := func() {
		if asked++; asked == 1 {
			if _, done, err := backend.Patch(t.Context(), pod, []events.Op{runner.Set("/spec/nodeName", "n1")}, revision); err != nil || !done {
				t.Errorf("bound: %v, %v", done, err)
			}
		}
	}
	l := &lane{
		authorizer: authorizer.AuthorizerFunc(func(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
			return authorizer.DecisionAllow, "", nil
		}),
		admission: beforeDeletion(bind), store: stored.Pod.Store, backend: backend,
	}
	done, err := l.delete(t.Context(), admin, pod, &metav1.DeleteOptions{})
	if err != nil || !done {
		t.Fatalf("deleted: %v, %v", done, err)
	}
	e := backend.Get(pod)
	if e == nil {
		t.Fatal("the pod is gone at once")
	}
	got := projections.As[corev1.Pod](e)
	if grace := got.DeletionGracePeriodSeconds; grace == nil || *grace != corev1.DefaultTerminationGracePeriodSeconds || got.Spec.NodeName != "n1" || asked != 2 {
		t.Errorf("admission was asked %d times, and the pod is %s", asked, e.Raw)
	}
}
