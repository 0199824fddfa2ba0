package api

import (
	"context"
	"errors"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	upstreamstorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/core"

	"github.com/reprise-run/reprise/agents/api/quick"
	"github.com/reprise-run/reprise/agents/api/storage"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// leaving is upstream's storage of one pod as far as a registry needs it to delete
// it. It decodes no version that a decider has decoded, and encodes none: of a pod
// that is to go, only a few fields of its metadata change.
type leaving struct {
	upstreamstorage.Interface // nil: nothing else is ever called
	backend                   *storage.Backend
	object                    events.Ref
	seen                      *projections.Entry // as it was looked at
	pod                       *core.Pod          // the same, as upstream has it in memory
}

var (
	// errOtherwise says that a registry wants something of a pod that cannot be done
	// here. Nothing has been done then.
	errOtherwise = errors.New("the pod would change in more than its deletion")
	// errSince says that the pod has changed since it was looked at.
	errSince = errors.New("the pod has changed meanwhile")
)

var versions = upstreamstorage.APIObjectVersioner{}

// look returns the pod as it stood when it was looked at first. Its memory, below its
// fields, is shared.
func (l *leaving) look(key string) (*core.Pod, error) {
	if l.pod == nil {
		e := l.backend.Get(l.object)
		if e == nil {
			return nil, upstreamstorage.NewKeyNotFoundError(key, 0)
		}
		pod, err := inMemory(e)
		if err != nil {
			return nil, err
		}
		l.seen, l.pod = e, pod
	}
	pod := *l.pod
	return &pod, nil
}

// inMemory is a pod as upstream decodes it.
func inMemory(e *projections.Entry) (*core.Pod, error) {
	decoded, err := e.Typed(reflect.TypeFor[corev1.Pod]())
	if err != nil {
		return nil, err
	}
	stored, pod := decoded.(*corev1.Pod).DeepCopy(), &core.Pod{}
	legacyscheme.Scheme.Default(stored)
	if err := legacyscheme.Scheme.Convert(stored, pod, nil); err != nil {
		return nil, err
	}
	return pod, versions.UpdateObject(pod, e.Sequence)
}

// Get implements upstreamstorage.Interface.
func (l *leaving) Get(_ context.Context, key string, _ upstreamstorage.GetOptions, out runtime.Object) error {
	pod, err := l.look(key)
	if err == nil {
		*out.(*core.Pod) = *pod
	}
	return err
}

// GuaranteedUpdate implements upstreamstorage.Interface.
func (l *leaving) GuaranteedUpdate(ctx context.Context, key string, out runtime.Object, _ bool, p *upstreamstorage.Preconditions,
	update upstreamstorage.UpdateFunc, _ runtime.Object) error {
	pod, err := l.look(key)
	if err != nil {
		return err
	}
	if err := p.Check(key, pod); err != nil {
		return err
	}
	updated, _, err := update(pod, upstreamstorage.ResponseMeta{ResourceVersion: l.seen.Sequence})
	if err != nil {
		return err
	}
	after, err := l.after(updated.(*core.Pod))
	if err != nil {
		return err
	}
	revision, done, err := l.backend.ReplaceDocument(ctx, l.object, l.seen.UID, after, l.seen.Sequence)
	l.pod = nil // whatever is done next is done to what is there then
	return settle(out, updated.(*core.Pod), revision, done, err)
}

// settle answers in out what came of a pod, given what the backend said of it.
func settle(out runtime.Object, pod *core.Pod, revision uint64, done bool, err error) error {
	switch {
	case err != nil:
		return err
	case !done:
		return errSince
	}
	*out.(*core.Pod) = *pod
	return versions.UpdateObject(out, revision)
}

// after is the pod as it is to be stored, if it is as it was but for the fields in
// which a deletion shows.
func (l *leaving) after(pod *core.Pod) ([]byte, error) {
	is, was := &pod.ObjectMeta, &l.pod.ObjectMeta
	rest := *pod
	rest.DeletionTimestamp, rest.DeletionGracePeriodSeconds = was.DeletionTimestamp, was.DeletionGracePeriodSeconds
	rest.Finalizers, rest.Generation = was.Finalizers, was.Generation
	if !quick.Equal(&rest, l.pod) {
		return nil, errOtherwise
	}
	return events.ApplyOps(l.seen.Raw, deletionOps(was, is))
}

// deletionOps are the operations after which metadata tells of a deletion what
// other metadata does.
func deletionOps(was, is *metav1.ObjectMeta) (ops []events.Op) {
	set := func(member string, was, is bool, value any) {
		path := "/metadata/" + member
		switch {
		case is:
			ops = append(ops, runner.Set(path, value))
		case was:
			ops = append(ops, runner.Unset(path))
		}
	}
	set("deletionGracePeriodSeconds", was.DeletionGracePeriodSeconds != nil, is.DeletionGracePeriodSeconds != nil, is.DeletionGracePeriodSeconds)
	set("deletionTimestamp", was.DeletionTimestamp != nil, is.DeletionTimestamp != nil, is.DeletionTimestamp)
	set("finalizers", len(was.Finalizers) > 0, len(is.Finalizers) > 0, is.Finalizers)
	set("generation", was.Generation != 0, is.Generation != 0, is.Generation)
	return ops
}

// Delete implements upstreamstorage.Interface.
func (l *leaving) Delete(ctx context.Context, key string, out runtime.Object, p *upstreamstorage.Preconditions,
	validate upstreamstorage.ValidateObjectFunc, _ runtime.Object, _ upstreamstorage.DeleteOptions) error {
	pod, err := l.look(key)
	if err != nil {
		return err
	}
	if err := p.Check(key, pod); err != nil {
		return err
	}
	if err := validate(ctx, pod); err != nil {
		return err
	}
	revision, done, err := l.backend.Remove(ctx, l.object, l.seen.Sequence)
	return settle(out, pod, revision, done, err)
}
