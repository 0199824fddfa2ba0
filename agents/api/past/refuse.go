package past

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/reprise-run/reprise/events"
)

var (
	errNoInfo   = apierrors.NewInternalError(errors.New("the request has not passed the filters that say what it asks"))
	errReadOnly = status(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, "the past cannot be changed")
)

// live are the ways to reach what runs.
var live = map[string]string{
	"log":         "what its containers printed is not in the history",
	"exec":        "its containers ran then, not now",
	"attach":      "its containers ran then, not now",
	"portforward": "its containers ran then, not now",
	"proxy":       "what it led to ran then, not now",
}

// refusal is why a request cannot be answered about the past, if so.
func refusal(info *request.RequestInfo, m Moment) error {
	if review(info) {
		return nil
	}
	if why, ok := live[info.Subresource]; ok && info.IsResourceRequest {
		return status(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed,
			fmt.Sprintf("%s: %s has no %s here, because %s; ask the present", then(m), what(info), info.Subresource, why))
	}
	switch info.Verb {
	case "get", "list", "watch", "head", "options":
		return nil
	}
	return status(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed,
		fmt.Sprintf("%s: it can be read, but the past cannot be changed (%s %s); to change the present, use the cluster's own context", then(m), info.Verb, whatOf(info)))
}

// then says what is shown.
func then(m Moment) string {
	return fmt.Sprintf("this is the cluster as it was at sequence %d (%s)", m.Sequence, m.Time.UTC().Format(time.RFC3339))
}

// what names the object of a request.
func what(info *request.RequestInfo) string {
	if !info.IsResourceRequest {
		return info.Path
	}
	r := events.Ref{Group: info.APIGroup, Resource: info.Resource, Namespace: info.Namespace, Name: info.Name}
	if r.GroupResource() == "namespaces" {
		r.Namespace = "" // Upstream has a namespace lie in itself.
	}
	if r.Name == "" {
		return r.GroupResource()
	}
	return r.String()
}

// whatOf is what, with the part of the object that the request is about: an eviction
// is created, not a pod.
func whatOf(info *request.RequestInfo) string {
	if !info.IsResourceRequest || info.Subresource == "" {
		return what(info)
	}
	return what(info) + "/" + info.Subresource
}

// review says whether a request only asks what somebody may do, or who they are.
// Clients make such before they show anything; nothing is written.
func review(info *request.RequestInfo) bool {
	return info.IsResourceRequest && info.Verb == "create" &&
		(info.APIGroup == "authorization.k8s.io" || info.APIGroup == "authentication.k8s.io")
}

// timeless says whether a request is about the server and not about the cluster.
// Some of these are open to everybody, who must not have us start a chain of servers.
func timeless(info *request.RequestInfo) bool {
	if info.IsResourceRequest {
		return false
	}
	switch first, _, _ := strings.Cut(strings.TrimPrefix(info.Path, "/"), "/"); first {
	case "version", "healthz", "livez", "readyz", "metrics":
		return true
	}
	return false
}

func noSuchPoint(err error) error {
	return status(http.StatusBadRequest, metav1.StatusReasonBadRequest, "cannot rewind: "+err.Error())
}

func notStarted(err error) error {
	return status(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "cannot serve the past: "+err.Error())
}

func status(code int32, reason metav1.StatusReason, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message,
	}}
}
