package api

import (
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/informers/networking"
	networkinginformers "k8s.io/client-go/informers/networking/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections/live"
)

// addresses are upstream's informers, whose lister of IPAddresses asks the projection
// before it says that there is none. Upstream's check of cluster IPs hears of services and
// of addresses by two watches, of which either may be the faster. A service that arrives
// before its address is to it one whose address nobody has allocated, and it tells so, in
// the history too, of a service that is well.
type addresses struct {
	informers.SharedInformerFactory
	projection live.Projection
}

// Networking implements informers.SharedInformerFactory.
func (a addresses) Networking() networking.Interface {
	return addressesGroup{a.SharedInformerFactory.Networking(), a.projection}
}

type addressesGroup struct {
	networking.Interface
	projection live.Projection
}

// V1 implements networking.Interface.
func (a addressesGroup) V1() networkinginformers.Interface {
	return addressesVersion{a.Interface.V1(), a.projection}
}

type addressesVersion struct {
	networkinginformers.Interface
	projection live.Projection
}

// IPAddresses implements networkinginformers.Interface.
func (a addressesVersion) IPAddresses() networkinginformers.TypedIPAddressInformer {
	return addressInformer{a.Interface.IPAddresses(), a.projection}
}

type addressInformer struct {
	networkinginformers.TypedIPAddressInformer
	projection live.Projection
}

// Lister implements networkinginformers.TypedIPAddressInformer.
func (a addressInformer) Lister() networkinglisters.IPAddressLister {
	return addressLister{a.TypedIPAddressInformer.Lister(), a.projection}
}

type addressLister struct {
	networkinglisters.IPAddressLister
	projection live.Projection
}

// Get implements networkinglisters.IPAddressLister. Who knows of a service knows it by the
// projection, which has had its address before it.
func (a addressLister) Get(name string) (*networkingv1.IPAddress, error) {
	known, err := a.IPAddressLister.Get(name)
	if !apierrors.IsNotFound(err) {
		return known, err
	}
	e := a.projection.View().Get(events.Ref{Group: networkingv1.GroupName, Resource: "ipaddresses", Name: name})
	if e == nil {
		return nil, err
	}
	object, err := decoded[networkingv1.IPAddress](e)
	if err != nil {
		return nil, err
	}
	object.SetResourceVersion(version(e.Sequence))
	return object.(*networkingv1.IPAddress), nil
}
