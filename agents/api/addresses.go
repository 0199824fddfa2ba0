package api

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/informers/core"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/informers/networking"
	networkinginformers "k8s.io/client-go/informers/networking/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections/live"
)

// addresses are upstream's informers, whose listers of services and of IPAddresses look in
// the projection for the one that they are asked for. Upstream's check of cluster IPs hears of
// both by two watches, of which either may be the faster: a service that arrives before its
// address, or goes after it, is to the check one whose address nobody has allocated, and an
// address that was given to another service is one with a wrong reference. It tells so, and
// mends what is well. In the projection they are in the order in which they were written.
// Lists are the informers' own.
type addresses struct {
	informers.SharedInformerFactory
	projection live.Projection
}

// Core implements informers.SharedInformerFactory.
func (a addresses) Core() core.Interface {
	return coreGroup{a.SharedInformerFactory.Core(), a.projection}
}

// Networking implements informers.SharedInformerFactory.
func (a addresses) Networking() networking.Interface {
	return networkingGroup{a.SharedInformerFactory.Networking(), a.projection}
}

type (
	coreGroup struct {
		core.Interface
		projection live.Projection
	}
	coreVersion struct {
		coreinformers.Interface
		projection live.Projection
	}
	serviceInformer struct {
		coreinformers.TypedServiceInformer
		projection live.Projection
	}
	serviceLister struct {
		corelisters.ServiceLister
		projection live.Projection
	}
	namespaceLister struct {
		corelisters.ServiceNamespaceLister
		projection live.Projection
		namespace  string
	}

	networkingGroup struct {
		networking.Interface
		projection live.Projection
	}
	networkingVersion struct {
		networkinginformers.Interface
		projection live.Projection
	}
	addressInformer struct {
		networkinginformers.TypedIPAddressInformer
		projection live.Projection
	}
	addressLister struct {
		networkinglisters.IPAddressLister
		projection live.Projection
	}
)

func (c coreGroup) V1() coreinformers.Interface {
	return coreVersion{c.Interface.V1(), c.projection}
}

func (c coreVersion) Services() coreinformers.TypedServiceInformer {
	return serviceInformer{c.Interface.Services(), c.projection}
}

func (s serviceInformer) Lister() corelisters.ServiceLister {
	return serviceLister{s.TypedServiceInformer.Lister(), s.projection}
}

func (s serviceLister) Services(namespace string) corelisters.ServiceNamespaceLister {
	return namespaceLister{s.ServiceLister.Services(namespace), s.projection, namespace}
}

func (s namespaceLister) Get(name string) (*corev1.Service, error) {
	return standing[corev1.Service](s.projection, events.Ref{Resource: "services", Namespace: s.namespace, Name: name})
}

func (n networkingGroup) V1() networkinginformers.Interface {
	return networkingVersion{n.Interface.V1(), n.projection}
}

func (n networkingVersion) IPAddresses() networkinginformers.TypedIPAddressInformer {
	return addressInformer{n.Interface.IPAddresses(), n.projection}
}

func (a addressInformer) Lister() networkinglisters.IPAddressLister {
	return addressLister{a.TypedIPAddressInformer.Lister(), a.projection}
}

func (a addressLister) Get(name string) (*networkingv1.IPAddress, error) {
	return standing[networkingv1.IPAddress](a.projection, events.Ref{Group: networkingv1.GroupName, Resource: "ipaddresses", Name: name})
}

// standing is an object as it stands.
func standing[T any, P interface {
	*T
	metav1.Object
}](p live.Projection, ref events.Ref) (P, error) {
	e := p.View().Get(ref)
	if e == nil {
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: ref.Group, Resource: ref.Resource}, ref.Name)
	}
	object, err := typed[T](e)
	if err != nil {
		return nil, err
	}
	P(object).SetResourceVersion(version(e.Sequence))
	return object, nil
}
