package api

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"slices"

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
	ops, err := l.ops(updated.(*core.Pod))
	if err != nil {
		return err
	}
	revision, done, err := l.backend.Patch(ctx, l.object, ops, l.seen.Sequence)
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

// ops are what the pod is changed by, if it is as it was but for the fields in which a
// deletion shows.
func (l *leaving) ops(pod *core.Pod) ([]events.Op, error) {
	is, was := &pod.ObjectMeta, &l.pod.ObjectMeta
	rest := *pod
	rest.DeletionTimestamp, rest.DeletionGracePeriodSeconds = was.DeletionTimestamp, was.DeletionGracePeriodSeconds
	rest.Finalizers, rest.Generation = was.Finalizers, was.Generation
	if !quick.Equal(&rest, l.pod) {
		return nil, errOtherwise
	}
	ops := deletionOps(was, is)
	if slices.Equal(was.Finalizers, is.Finalizers) {
		return ops, nil
	}
	// Which of a list remain is told one by one.
	after, err := events.ApplyOps(l.seen.Raw, ops)
	if err != nil {
		return nil, err
	}
	patch, err := events.Diff(l.seen.Raw, after)
	if err != nil {
		return nil, err
	}
	return events.ParsePatch(patch)
}

// deletionOps are the operations after which metadata tells of a deletion what
// other metadata does: of what differs, in the order of events.Diff.
func deletionOps(was, is *metav1.ObjectMeta) (ops []events.Op) {
	set := func(member string, was, is any, had, has bool) {
		path := "/metadata/" + member
		switch {
		case !has && had:
			ops = append(ops, runner.Unset(path))
		case !has:
		case !had:
			ops = append(ops, runner.Set(path, is))
		default:
			if before, after := runner.Encode(was), runner.Encode(is); !bytes.Equal(before, after) {
				ops = append(ops, events.Op{Op: "replace", Path: path, Value: after})
			}
		}
	}
	set("deletionGracePeriodSeconds", was.DeletionGracePeriodSeconds, is.DeletionGracePeriodSeconds, was.DeletionGracePeriodSeconds != nil, is.DeletionGracePeriodSeconds != nil)
	set("deletionTimestamp", was.DeletionTimestamp, is.DeletionTimestamp, was.DeletionTimestamp != nil, is.DeletionTimestamp != nil)
	set("finalizers", was.Finalizers, is.Finalizers, len(was.Finalizers) > 0, len(is.Finalizers) > 0)
	set("generation", was.Generation, is.Generation, was.Generation != 0, is.Generation != 0)
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
