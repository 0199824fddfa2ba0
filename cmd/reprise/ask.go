package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/agents/historian"
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

// nothingIn says why nothing is found in a namespace, if there never was such a one, as
// far as a server knows that answers, and nothing happened there.
func nothingIn(ctx context.Context, h *historian.Client, namespace string) error {
	if namespace == "" {
		return nil
	}
	_, never := h.Find(ctx, history.Name{Text: "namespaces/" + namespace})
	if !errors.As(never, new(historian.Refusal)) {
		return never
	}
	if was, err := happened(ctx, h, history.Query{Namespace: namespace}); was || err != nil {
		return err
	}
	return fmt.Errorf("nothing happened in the namespace %s: %w", namespace, never)
}

// nothing says that no event is as q asks, or why there can be none: nobody and nothing
// of a name that it has is in the history.
func (e *environment) nothing(ctx context.Context, h *historian.Client, q history.Query) error {
	if err := nothingIn(ctx, h, q.Namespace); err != nil {
		return err
	}
	for _, of := range []struct {
		name  string
		alone history.Query
		never string
		known func() ([]string, error)
	}{
		{q.User, history.Query{User: q.User}, "nothing was ever done for a user %q; lately it was for %s",
			func() ([]string, error) { _, users, err := h.Actors(ctx); return users, err }},
		{q.Actor, history.Query{Actor: q.Actor}, "nothing was ever written by an actor %q; lately it was by %s",
			func() ([]string, error) { actors, _, err := h.Actors(ctx); return actors, err }},
		{q.Resource, history.Query{Resource: q.Resource}, "there never was a resource %q; the log has %s",
			func() ([]string, error) { return h.Propose(ctx, history.Name{}) }},
	} {
		if of.name == "" {
			continue
		}
		was, err := happened(ctx, h, of.alone)
		if err != nil {
			return err
		}
		if !was {
			known, err := of.known()
			return cmp.Or(err, fmt.Errorf(of.never, of.name, strings.Join(known, ", ")))
		}
	}
	fmt.Fprintln(e.Stderr, "There is no such event.")
	return nil
}

// happened says whether anything did that q asks for.
func happened(ctx context.Context, h *historian.Client, q history.Query) (bool, error) {
	q.Limit, q.Bare, q.Backward = 1, true, true
	for _, err := range h.Events(ctx, q) {
		return err == nil, err
	}
	return false, nil
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

// atMostOneObject is oneObject where it may be left out.
func atMostOneObject(example string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return oneObject(example)(c, args)
	}
}

// operatorSeed is the key with which the operator's commands connect.
func (e *environment) operatorSeed() string {
	return filepath.Join(e.LogDir(), "users", operator+".nk")
}
