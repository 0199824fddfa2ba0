package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections/history"
)

// ask connects to the running server and lets f ask it about the history.
func (e *environment) ask(f func(*historian.Client) error) error {
	nc, _, err := e.connectAsOperator()
	if err != nil {
		return err
	}
	defer nc.Close()
	return f(historian.NewClient(nc, subjectPrefix))
}

// oneObject wants one argument that names an object, and says how.
func oneObject(example string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch len(args) {
		case 1:
			return nil
		case 2:
			return fmt.Errorf("which object? Write kind and name as one: %s %s/%s", c.CommandPath(), args[0], args[1])
		}
		return fmt.Errorf("which object? Say for example: %s %s", c.CommandPath(), example)
	}
}

var uid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// objectQuery asks for the events of an object as a person names it: by uid, as
// the log does (pods/shop/web-1), or as kubectl does (pod/web-1 in a namespace).
func (e *environment) objectQuery(name, namespace string) (history.Query, error) {
	if uid.MatchString(name) {
		return history.Query{UID: name}, nil
	}
	kind, rest, ok := strings.Cut(name, "/")
	if !ok || rest == "" {
		return history.Query{}, fmt.Errorf("%q names no object: say for example pod/web-1, deployments.apps/shop/web or a uid", name)
	}
	resource, namespaced := e.resource(kind)
	ref := events.Ref{Group: resource.Group, Resource: resource.Resource, Name: rest}
	if in, bare, ok := strings.Cut(rest, "/"); ok {
		ref.Namespace, ref.Name = in, bare
	} else if namespaced {
		ref.Namespace = namespace
	}
	return history.Query{Object: ref}, nil
}

// resource completes a short or singular name as kubectl does, by asking the API
// which resources there are. What the API does not know, because its definition
// is gone or the API is down, is taken as it stands.
func (e *environment) resource(name string) (r schema.GroupResource, namespaced bool) {
	literal := schema.ParseGroupResource(name)
	flags := genericclioptions.NewConfigFlags(true)
	kubeconfig := e.Kubeconfig()
	flags.KubeConfig = &kubeconfig
	mapper, err := flags.ToRESTMapper()
	if err != nil {
		return literal, true
	}
	found, err := mapper.ResourceFor(literal.WithVersion(""))
	if err != nil {
		return literal, true
	}
	kind, err := mapper.KindFor(found)
	if err != nil {
		return found.GroupResource(), true
	}
	mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return found.GroupResource(), true
	}
	return found.GroupResource(), mapping.Scope.Name() == meta.RESTScopeNameNamespace
}

// operatorSeed is the key with which the operator's commands connect.
func (e *environment) operatorSeed() string {
	return filepath.Join(e.LogDir(), "users", operator+".nk")
}
