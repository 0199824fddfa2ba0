package api

import (
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"

	"github.com/reprise-run/reprise/agents/api/storage/storagetest"
	"github.com/reprise-run/reprise/events"
)

// A service and its address are found as they stand, whatever the informers have heard.
func TestAddressesAreLookedUpInTheProjection(t *testing.T) {
	log := storagetest.NewLog(t, false)
	const name = "10.43.0.9"
	allocated := log.Command(t, events.Ref{Group: "networking.k8s.io", Resource: "ipaddresses", Name: name}, "u1", nil,
		[]byte(`{"apiVersion":"networking.k8s.io/v1","kind":"IPAddress","metadata":{"name":"10.43.0.9","uid":"u1"},"spec":{"parentRef":{"name":"web","namespace":"shop","resource":"services"}}}`))
	created := log.Command(t, events.Ref{Resource: "services", Namespace: "shop", Name: "web"}, "u2", nil,
		[]byte(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop","uid":"u2"},"spec":{"clusterIP":"10.43.0.9"}}`))

	late := informers.NewSharedInformerFactory(kubernetes.NewForConfigOrDie(&restclient.Config{Host: "http://127.0.0.1:0"}), 0)
	former := &networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Name: "former"}}}
	gone := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "former"}}
	if err := errors.Join(late.Networking().V1().IPAddresses().Informer().GetIndexer().Add(former), late.Core().V1().Services().Informer().GetIndexer().Add(gone)); err != nil {
		t.Fatal(err)
	}
	known := addresses{late, log.Live}
	addresses, services := known.Networking().V1().IPAddresses().Lister(), known.Core().V1().Services().Lister().Services("shop")

	address, err := addresses.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(address.Name, " of ", address.Spec.ParentRef.Name, " at ", address.ResourceVersion), fmt.Sprint(name, " of web at ", allocated); got != want {
		t.Errorf("found %s, want %s", got, want)
	}
	service, err := services.Get("web")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(service.Name, " with ", service.Spec.ClusterIP, " at ", service.ResourceVersion), fmt.Sprint("web with ", name, " at ", created); got != want {
		t.Errorf("found %s, want %s", got, want)
	}
	if _, err := addresses.Get("10.43.0.10"); !apierrors.IsNotFound(err) {
		t.Errorf("of an address that is nowhere: %v", err)
	}
	if _, err := services.Get("former"); !apierrors.IsNotFound(err) {
		t.Errorf("of a service that is gone: %v", err)
	}
}
