package seal

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/client-go/kubernetes/scheme"
)

// pattern is a line of an encryption configuration's list of resources.
type pattern struct{ group, resource string }

// parsePattern reads secrets, widgets.example.com, *.example.com, *. or *.*; it
// refuses a resource that cannot be sealed.
func parsePattern(text string) (pattern, error) {
	resource, group, _ := strings.Cut(text, ".")
	p := pattern{group: group, resource: resource}
	if resource == "" {
		return p, fmt.Errorf("%q names no resource", text)
	}
	if resource != "*" && !sealable(group, resource) {
		return p, fmt.Errorf("%s cannot be encrypted: the scheduler, the controllers and the nodes read them from the log. What can be are secrets, configmaps and custom resources", text)
	}
	return p, nil
}

func (p pattern) matches(group, resource string) bool {
	return (p.group == "*" || p.group == group) && (p.resource == "*" || p.resource == resource) && sealable(group, resource)
}

// sealable says whether nobody needs to read a resource's values in the log.
func sealable(group, resource string) bool {
	if group == "" {
		return resource == "secrets" || resource == "configmaps"
	}
	return !scheme.Scheme.IsGroupRegistered(group) && !slices.Contains(ourGroups, group)
}

// ourGroups are those of the API server that are not in client-go's scheme.
var ourGroups = []string{"apiextensions.k8s.io", "apiregistration.k8s.io", "reprise.run"}
