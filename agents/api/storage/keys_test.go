package storage

import (
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/reprise-run/reprise/events"
)

func testKeys() *Keys {
	return NewKeys("/registry", map[schema.GroupResource]string{
		{Resource: "pods"}:                                  "pods",
		{Resource: "nodes"}:                                 "minions",
		{Resource: "services"}:                              "services/specs",
		{Resource: "endpoints"}:                             "services/endpoints",
		{Resource: "events"}:                                "events",
		{Group: "events.k8s.io", Resource: "events"}:        "events",
		{Group: "apps", Resource: "deployments"}:            "deployments",
		{Group: "networking.k8s.io", Resource: "ingresses"}: "ingress",
	})
}

func TestKeysAndReferencesAreOneToOne(t *testing.T) {
	for key, want := range map[string]events.Ref{
		"/registry/pods/shop/web-1":                        {Resource: "pods", Namespace: "shop", Name: "web-1"},
		"/registry/minions/n1":                             {Resource: "nodes", Name: "n1"},
		"/registry/services/specs/shop/web":                {Resource: "services", Namespace: "shop", Name: "web"},
		"/registry/services/endpoints/shop/web":            {Resource: "endpoints", Namespace: "shop", Name: "web"},
		"/registry/deployments/shop/web":                   {Group: "apps", Resource: "deployments", Namespace: "shop", Name: "web"},
		"/registry/ingress/shop/web":                       {Group: "networking.k8s.io", Resource: "ingresses", Namespace: "shop", Name: "web"},
		"/registry/events/shop/web.17":                     {Resource: "events", Namespace: "shop", Name: "web.17"},
		"/registry/example.com/widgets/shop/w":             {Group: "example.com", Resource: "widgets", Namespace: "shop", Name: "w"},
		"/registry/example.com/clusterwidgets/w":           {Group: "example.com", Resource: "clusterwidgets", Name: "w"},
		"/registry/apiregistration.k8s.io/apiservices/v1.": {Group: "apiregistration.k8s.io", Resource: "apiservices", Name: "v1."},
		"/registry/masterleases/10.0.0.1":                  {Resource: "masterleases", Name: "10.0.0.1"},
		"/registry/ranges/serviceips":                      {Resource: "ranges", Name: "serviceips"},
	} {
		k := testKeys()
		got, ok := k.Ref(key)
		if !ok || got != want {
			t.Errorf("Ref(%s) = %v, %v; want %v", key, got, ok, want)
		}
		if back := k.Key(want); back != key {
			t.Errorf("Key(%v) = %s; want %s", want, back, key)
		}
	}
}

func TestScopes(t *testing.T) {
	for prefix, want := range map[string]events.Ref{
		"/registry/pods/":                        {Resource: "pods"},
		"/registry/pods/shop/":                   {Resource: "pods", Namespace: "shop"},
		"/registry/services/specs/":              {Resource: "services"},
		"/registry/services/specs/shop/":         {Resource: "services", Namespace: "shop"},
		"/registry/example.com/widgets/":         {Group: "example.com", Resource: "widgets"},
		"/registry/pods/shop/web/":               {Resource: "pods", Namespace: "shop", Name: "web/"},
		"/registry/example.com/widgets/default/": {Group: "example.com", Resource: "widgets", Namespace: "default"},
	} {
		got, ok := testKeys().Scope(prefix)
		if !ok || got != want {
			t.Errorf("Scope(%s) = %v, %v; want %v", prefix, got, ok, want)
		}
	}
	for _, prefix := range []string{"/registry/pods", "/other/pods/"} {
		if got, ok := testKeys().Scope(prefix); ok {
			t.Errorf("Scope(%s) = %v; want none", prefix, got)
		}
	}
}
