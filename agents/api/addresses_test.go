package api

import (
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"

	"github.com/reprise-run/reprise/agents/api/storage/storagetest"
	"github.com/reprise-run/reprise/events"
)

// An address of which the informer has not heard is found where it has been since it was
// allocated, and one that is nowhere is not.
func TestAddressesAreLookedUpInTheProjection(t *testing.T) {
	log := storagetest.NewLog(t, false)
	const name = "10.43.0.9"
	document := fmt.Appendf(nil, `{"apiVersion":"networking.k8s.io/v1","kind":"IPAddress","metadata":{"name":%q,"uid":"u1"},"spec":{"parentRef":{"name":"web","namespace":"shop","resource":"services"}}}`, name)
	c, _, err := events.Command(events.Ref{Group: "networking.k8s.io", Resource: "ipaddresses", Name: name}, "u1", nil, document)
	if err != nil {
		t.Fatal(err)
	}
	r, err := log.Propose(t.Context(), events.Proposal{Decision: events.Decision{Changes: []events.Change{c}}, Actor: events.Actor{Kind: "api"}})
	if err == nil {
		err = log.Wait(t.Context(), r.Last)
	}
	if err != nil {
		t.Fatal(err)
	}
	deaf := informers.NewSharedInformerFactory(kubernetes.NewForConfigOrDie(&restclient.Config{Host: "http://127.0.0.1:0"}), 0)
	known := addresses{deaf, log.Live}.Networking().V1().IPAddresses().Lister()
	found, err := known.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%s of %s at %s", found.Name, found.Spec.ParentRef.Name, found.ResourceVersion); got != fmt.Sprintf("%s of web at %d", name, r.Last) {
		t.Errorf("found %s", got)
	}
	if _, err := known.Get("10.43.0.10"); !apierrors.IsNotFound(err) {
		t.Errorf("of an address that is nowhere: %v", err)
	}
}
