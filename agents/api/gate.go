package api

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/reprise-run/reprise/agents/api/storage"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
)

// turns is how many commands of this process's agents are under way at a time. More
// bring no more through, and keep everybody else's requests waiting.
const turns = 16

// share is how many of them one actor may have: while all of its commands hang, say
// in a webhook that does not answer, the others' go on.
const share = 12

// queue gives out turns.
type queue struct {
	turns chan struct{} // holds one for each command that is under way
	share int

	mu     sync.Mutex
	shares map[string]chan struct{} // likewise, by actor
}

func newQueue(turns, share int) *queue {
	return &queue{turns: make(chan struct{}, turns), share: share, shares: map[string]chan struct{}{}}
}

// take waits for a turn of an actor, which ends with done.
func (q *queue) take(ctx context.Context, actor events.Actor) (done func(), err error) {
	own := q.of(actor.String())
	select {
	case own <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case q.turns <- struct{}{}:
		return func() { <-q.turns; <-own }, nil
	case <-ctx.Done():
		<-own
		return nil, ctx.Err()
	}
}

// of is where an actor's turns are counted.
func (q *queue) of(actor string) chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	own := q.shares[actor]
	if own == nil {
		own = make(chan struct{}, q.share)
		q.shares[actor] = own
	}
	return own
}

// Gate returns the entrance for the agents of this process.
func (s *Server) Gate() runner.Gate { return gate{s} }

// gate implements runner.Gate by requests that never leave the process.
type gate struct{ server *Server }

var _ runner.Gate = gate{}

// Do implements runner.Gate.
func (g gate) Do(ctx context.Context, actor events.Actor, c runner.Command) (uint64, error) {
	done, err := g.server.queue.take(ctx, actor)
	if err != nil {
		return 0, err
	}
	defer done()
	deed := &storage.Deed{Cause: c.Because, Basis: c.Origin.Basis, Now: c.Origin.Now, Asked: c.Origin.Asked}
	ctx = storage.WithDeed(ctx, deed)
	switch c.Verb {
	case runner.Create:
		if err = g.create(ctx, actor, c); apierrors.IsAlreadyExists(err) {
			return 0, nil
		}
	case runner.Delete:
		err = g.delete(ctx, actor, c)
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) && g.gone(c) {
			return 0, nil
		}
	default:
		return 0, fmt.Errorf("%s %s: the gate knows no such verb", c.Verb, c.Object)
	}
	if err != nil {
		return 0, err
	}
	if written := deed.Written(); written > 0 {
		return written, nil
	}
	if e := g.server.backend.Get(c.Object); e != nil {
		return e.Sequence, nil
	}
	return 0, nil
}

// create makes an object: by the short way if one like it was made before, and
// else by a request, of which the next such creation learns.
func (g gate) create(ctx context.Context, actor events.Actor, c runner.Command) error {
	who := g.server.user(actor)
	lane, mould := g.server.lane.find(c, actor)
	if mould != nil {
		if done, err := lane.create(ctx, who, mould, c); done {
			return err
		}
	}
	target, err := collection(c.Object, c.Body)
	if err != nil {
		return err
	}
	target += "?fieldManager=" + url.QueryEscape(actor.String())
	answer, err := g.server.request(ctx, who, http.MethodPost, target, c.Body)
	if err == nil && lane != nil && mould == nil {
		lane.learn(c, actor, answer)
	}
	return err
}

func (g gate) delete(ctx context.Context, actor events.Actor, c runner.Command) error {
	e := g.server.backend.Get(c.Object)
	if e == nil {
		return nil
	}
	o, who := deleteOptions(c), g.server.user(actor)
	if c.Object.GroupResource() == "pods" && g.server.backend.Plain(e) {
		if done, err := g.server.lane.delete(ctx, who, c.Object, o); done {
			return err
		}
	}
	target, err := collection(c.Object, e.Raw)
	if err != nil {
		return err
	}
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	_, err = g.server.request(ctx, who, http.MethodDelete, target+"/"+url.PathEscape(c.Object.Name), body)
	return err
}

// deleteOptions are the options of the request that a deletion would be.
func deleteOptions(c runner.Command) *metav1.DeleteOptions {
	o := &metav1.DeleteOptions{
		TypeMeta:           metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"},
		GracePeriodSeconds: c.GracePeriod,
	}
	if c.Propagation != "" {
		p := metav1.DeletionPropagation(c.Propagation)
		o.PropagationPolicy = &p
	}
	if c.UID != "" || c.Sequence != 0 {
		o.Preconditions = &metav1.Preconditions{}
	}
	if c.UID != "" {
		uid := types.UID(c.UID)
		o.Preconditions.UID = &uid
	}
	if c.Sequence != 0 {
		version := strconv.FormatUint(c.Sequence, 10)
		o.Preconditions.ResourceVersion = &version
	}
	return o
}

// gone says whether the object that a deletion meant is no longer there.
func (g gate) gone(c runner.Command) bool {
	e := g.server.backend.Get(c.Object)
	return e == nil || c.UID != "" && e.UID != c.UID
}

// collection is the path of the resource that an object belongs to. The version
// is the one in which the object is given.
func collection(r events.Ref, object []byte) (string, error) {
	version, _ := events.Text(events.Lookup(object, "apiVersion"))
	if version == "" {
		var o metav1.TypeMeta // it may be JSON of another form
		if err := json.Unmarshal(object, &o); err != nil || o.APIVersion == "" {
			return "", fmt.Errorf("%s: the object does not say its apiVersion", r)
		}
		version = o.APIVersion
	}
	path := "/apis/" + version
	if r.Group == "" {
		path = "/api/" + version
	}
	if r.Namespace != "" {
		path += "/namespaces/" + url.PathEscape(r.Namespace)
	}
	return path + "/" + r.Resource, nil
}

// Token issues a token for a service account as the node asks for it on behalf
// of a pod: the rules of upstream's Node authorizer and of NodeRestriction hold,
// so the pod must be bound to the node.
func (s *Server) Token(ctx context.Context, node, namespace, account string, req *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	r := req.DeepCopy()
	r.APIVersion, r.Kind = "authentication.k8s.io/v1", "TokenRequest"
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	target := fmt.Sprintf("/api/v1/namespaces/%s/serviceaccounts/%s/token", url.PathEscape(namespace), url.PathEscape(account))
	answer, err := s.request(ctx, identity(events.Actor{Kind: "node", Name: node}), http.MethodPost, target, body)
	if err != nil {
		return nil, err
	}
	issued := new(authenticationv1.TokenRequest)
	return issued, json.Unmarshal(answer, issued)
}

// request makes a request and returns the answer's body. A refusal is a
// *apierrors.StatusError.
func (s *Server) request(ctx context.Context, u user.Info, method, target string, body []byte) ([]byte, error) {
	code, answer, err := s.do(ctx, u, method, target, body)
	if err != nil || code < http.StatusBadRequest {
		return answer, err
	}
	var status metav1.Status
	if json.Unmarshal(answer, &status) == nil && status.Kind == "Status" {
		return nil, &apierrors.StatusError{ErrStatus: status}
	}
	return nil, fmt.Errorf("%s %s was answered with %d: %.200s", method, target, code, answer)
}

// accounts are the upstream names of the service accounts whose roles our
// controllers act under, where that is not the controller's name and
// "-controller".
var accounts = map[string]string{
	"garbage":          "generic-garbage-collector",
	"rootca":           "root-ca-cert-publisher",
	"roleaggregation":  "clusterrole-aggregation-controller",
	"serviceaccount":   "service-account-controller",
	"daemonset":        "daemon-set-controller",
	"nodelifecycle":    "node-controller",
	"podgc":            "pod-garbage-collector",
	"quota":            "resourcequota-controller",
	"hpa":              "horizontal-pod-autoscaler",
	"ttlafterfinished": "ttl-after-finished-controller",
	"volume":           "persistent-volume-binder",
}

// user is identity, for who gives many commands.
func (s *Server) user(a events.Actor) user.Info {
	if known, is := s.users.Load(a); is {
		return known.(user.Info)
	}
	u := identity(a)
	s.users.Store(a, u)
	return u
}

// identity is the user as whom an agent acts.
func identity(a events.Actor) user.Info {
	switch a.Kind {
	case "node":
		return &user.DefaultInfo{Name: "system:node:" + a.Name, Groups: []string{user.NodesGroup, user.AllAuthenticated}}
	case "scheduler":
		return &user.DefaultInfo{Name: user.KubeScheduler, Groups: []string{user.AllAuthenticated}}
	case "controller":
		account := cmp.Or(accounts[a.Name], a.Name+"-controller")
		groups := slices.Clip(append(serviceaccount.MakeGroupNames(metav1.NamespaceSystem), user.AllAuthenticated)) // many share it
		return &user.DefaultInfo{Name: serviceaccount.MakeUsername(metav1.NamespaceSystem, account), Groups: groups}
	}
	return &user.DefaultInfo{Name: "system:" + a.String(), Groups: []string{user.AllAuthenticated}}
}
