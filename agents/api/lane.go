package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/core"
	podstorage "k8s.io/kubernetes/pkg/registry/core/pod/storage"

	"github.com/reprise-run/reprise/agents/api/storage"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
)

// lane is the short way for creations of which there are many alike: the pods of
// one ReplicaSet are the same but for their names. The first goes through the API
// as a request; of it the lane learns what reading the body and keeping account of
// who set which field came to, and casts the next in that mould. What may come out
// otherwise the next time is done each time, by upstream's own code: authorization,
// admission, and, unless the pod comes out of admission as one before it did (see
// cast), the registry's strategy and validation. It is also the short way for
// deletions of pods, for which there is nothing to learn.
type lane struct {
	authorizer authorizer.UnconditionalAuthorizer
	admission  admission.Interface
	pods       rest.Creater
	store      *genericregistry.Store // that pods is made of
	codec      runtime.Codec          // with which it encodes
	backend    *storage.Backend
	interfaces admission.ObjectInterfaces
	seed       maphash.Seed

	mu     sync.Mutex
	moulds map[uint64]*mould
}

// mould is what is the same in objects that are created alike.
type mould struct {
	before, behind []byte // of the name's value, in the body
	manager        string
	pod            *core.Pod                 // as the body reads
	fields         metav1.ManagedFieldsEntry // of the fields' manager, but for the time
	cast           atomic.Pointer[cast]      // nil before a pod has come of the mould
}

// maxMoulds is how many are kept: more than there are ReplicaSets that create pods
// at about the same time.
const maxMoulds = 512

// longest is how long a creation or deletion may take, as in upstream's handler
// (requestTimeoutUpperBound).
const longest = 34 * time.Second

func newLane(c genericapiserver.CompletedConfig, b *storage.Backend, a authorizer.UnconditionalAuthorizer) (*lane, error) {
	stored, err := podstorage.NewStorage(directly{c.RESTOptionsGetter, b}, nil, nil, nil, nil)
	if err != nil {
		return nil, err
	}
	return &lane{
		authorizer: a, admission: c.AdmissionControl, pods: stored.Pod, store: stored.Pod.Store, codec: stored.Pod.Storage.Codec, backend: b,
		interfaces: admission.NewObjectInterfacesFromScheme(legacyscheme.Scheme),
		seed:       maphash.MakeSeed(), moulds: map[uint64]*mould{},
	}, nil
}

// find returns the lane for a creation, and its mould if there is one; nil if it
// must go another way.
func (l *lane) find(c runner.Command, actor events.Actor) (*lane, *mould) {
	if c.Object.GroupResource() != "pods" {
		return nil, nil
	}
	before, behind, ok := events.Around(c.Body, "metadata", "name")
	if !ok {
		return nil, nil
	}
	if name, _ := events.Text(c.Body[len(before) : len(c.Body)-len(behind)]); name != c.Object.Name {
		return nil, nil
	}
	l.mu.Lock()
	m := l.moulds[l.hash(before, behind)]
	l.mu.Unlock()
	switch {
	case m != nil && m.manager == actor.String() && bytes.Equal(m.before, before) && bytes.Equal(m.behind, behind):
		return l, m // It was made of a canonical body.
	case events.IsCanonical(c.Body):
		return l, nil
	}
	return nil, nil
}

func (l *lane) hash(before, behind []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(l.seed)
	h.Write(before)
	h.Write(behind)
	return h.Sum64()
}

// learn makes a mould of a creation that went well, and of the object that came of
// it.
func (l *lane) learn(c runner.Command, actor events.Actor, answer []byte) {
	var made metav1.PartialObjectMetadata
	if json.Unmarshal(answer, &made) != nil || len(made.ManagedFields) != 1 || made.ManagedFields[0].Manager != actor.String() {
		return
	}
	object, _, err := legacyscheme.Codecs.UniversalDecoder().Decode(c.Body, nil, nil)
	pod, ok := object.(*core.Pod)
	if err != nil || !ok || pod.Namespace != c.Object.Namespace || len(pod.OwnerReferences) > 1 {
		return
	}
	rest.WipeObjectMetaSystemFields(pod)
	pod.ManagedFields = nil
	m := &mould{manager: actor.String(), pod: pod, fields: made.ManagedFields[0]}
	m.before, m.behind, _ = events.Around(bytes.Clone(c.Body), "metadata", "name")
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.moulds) >= maxMoulds {
		clear(l.moulds)
	}
	l.moulds[l.hash(m.before, m.behind)] = m
}

// delete deletes a pod. It says false, and has done nothing, if that must go the
// other way.
func (l *lane) delete(ctx context.Context, who user.Info, r events.Ref, options *metav1.DeleteOptions) (done bool, err error) {
	ctx, cancel := context.WithTimeout(inside(ctx, who, "delete", r), longest)
	defer cancel()
	defer func() { err = inTime(ctx, err) }()
	defer unharmed(&done, &err)
	if !l.allows(ctx) {
		return false, nil // a request says why
	}
	for {
		// The registry writes into the options what it makes of them, which must not
		// be heeded when the pod is another the next time: bound meanwhile, say.
		o := options.DeepCopy()
		o.TypeMeta = metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "DeleteOptions"}
		attributes := admission.NewAttributesRecord(nil, nil, podKind, r.Namespace, r.Name, podResource, "", admission.Delete, o, false, who)
		store := *l.store
		store.Storage.Storage = &leaving{backend: l.backend, object: r}
		_, _, err = store.Delete(ctx, r.Name, rest.AdmissionToValidateObjectDeleteFunc(admission.WithAudit(l.admission), attributes, l.interfaces), o)
		switch {
		case errors.Is(err, errOtherwise):
			return false, nil
		case !errors.Is(err, errSince):
			return true, err
		}
	}
}

// create makes a pod as a mould has it. It says false, and has done nothing, if
// that must go the other way.
func (l *lane) create(ctx context.Context, who user.Info, m *mould, c runner.Command) (done bool, err error) {
	ctx, cancel := context.WithTimeout(inside(ctx, who, "create", c.Object), longest)
	defer cancel()
	defer func() { err = inTime(ctx, err) }()
	defer unharmed(&done, &err)
	if !l.allows(ctx) {
		return false, nil // a request says why
	}
	pod := m.pod.DeepCopy()
	pod.Name = c.Object.Name
	now := metav1.NewTime(time.Now().UTC())
	pod.ManagedFields = []metav1.ManagedFieldsEntry{m.fields}
	pod.ManagedFields[0].Time = &now

	options := &metav1.CreateOptions{TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "CreateOptions"}, FieldManager: m.manager}
	attributes := admission.NewAttributesRecord(pod, nil, podKind, pod.Namespace, pod.Name, podResource, "", admission.Create, options, false, who)
	admit := admission.WithAudit(l.admission)
	if mutate, ok := admit.(admission.MutationInterface); ok && mutate.Handles(admission.Create) {
		fields := slices.Clone(pod.ManagedFields)
		if err := mutate.Admit(ctx, attributes, l.interfaces); err != nil {
			return true, err
		}
		if !sameFields(fields, pod.ManagedFields) && managedfields.ValidateManagedFields(pod.ManagedFields) != nil {
			pod.ManagedFields = fields
		}
		pod.OwnerReferences = distinct(pod.OwnerReferences)
	}
	validate := rest.AdmissionToValidateObjectFunc(admit, attributes, l.interfaces)
	if c := m.cast.Load(); c != nil && c.fits(pod) {
		return true, l.pour(ctx, c, pod, validate)
	}
	admitted := pod.DeepCopy()
	made, err := l.pods.Create(ctx, pod, validate, options)
	if err == nil {
		m.cast.Store(castOf(admitted, made.(*core.Pod), l.codec))
	}
	return true, err
}

var (
	podKind     = core.SchemeGroupVersion.WithKind("Pod").GroupKind().WithVersion("v1")
	podResource = core.Resource("pods").WithVersion("v1")
)

// sameFields says whether two accounts of fields share their memory, as they do
// unless somebody has changed one.
func sameFields(a, b []metav1.ManagedFieldsEntry) bool {
	return slices.EqualFunc(a, b, func(a, b metav1.ManagedFieldsEntry) bool { return a == b })
}

// distinct returns the owners without those that are there a second time, which
// admission may add; upstream's handler does the same.
func distinct(owners []metav1.OwnerReference) []metav1.OwnerReference {
	if len(owners) < 2 {
		return owners
	}
	var all []metav1.OwnerReference
	for _, o := range owners {
		if !slices.ContainsFunc(all, func(b metav1.OwnerReference) bool { return apiequality.Semantic.DeepEqual(o, b) }) {
			all = append(all, o)
		}
	}
	return all
}

// allows says whether the user may do what the context says is asked for.
func (l *lane) allows(ctx context.Context) bool {
	who, _ := request.UserFrom(ctx)
	info, _ := request.RequestInfoFrom(ctx)
	decision, _, _ := l.authorizer.Authorize(ctx, authorizer.AttributesRecord{
		User: who, Verb: info.Verb, Namespace: info.Namespace, APIGroup: info.APIGroup, APIVersion: info.APIVersion,
		Resource: info.Resource, Name: info.Name, ResourceRequest: true, Path: info.Path,
	})
	return decision == authorizer.DecisionAllow
}

// inTime is an error, said as upstream's handler says it if the time was up.
func inTime(ctx context.Context, err error) error {
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return apierrors.NewTimeoutError("it took too long: "+err.Error(), 0)
	}
	return err
}

// unharmed, when deferred, has a mistake in what judges a command (an admission
// plugin, a strategy) cost that command and not the process, as upstream's handlers do.
func unharmed(done *bool, err *error) {
	if p := recover(); p != nil {
		*done, *err = true, apierrors.NewInternalError(fmt.Errorf("a bug in what judges it: %v\n%s", p, debug.Stack()))
	}
}

// inside is the context of a command about a pod that comes from this process, with
// what the filters before upstream's handlers put there.
func inside(ctx context.Context, who user.Info, verb string, r events.Ref) context.Context {
	ctx = audit.WithAuditContext(ctx)
	audit.WithAuditID(ctx, types.UID(uuid.NewString()))
	ctx = request.WithReceivedTimestamp(ctx, time.Now())
	ctx = request.WithUser(request.WithNamespace(ctx, r.Namespace), who)
	info := &request.RequestInfo{
		IsResourceRequest: true, Path: "/api/v1/namespaces/" + r.Namespace + "/" + r.Resource,
		Verb: verb, APIPrefix: "api", APIVersion: "v1", Namespace: r.Namespace, Resource: r.Resource, Parts: []string{r.Resource},
	}
	ctx = context.WithValue(ctx, insideKey{}, verb)
	if verb != "create" {
		info.Name, info.Path, info.Parts = r.Name, info.Path+"/"+r.Name, append(info.Parts, r.Name)
	}
	return request.WithRequestInfo(ctx, info)
}
