package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

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
	for _, err := range h.Events(ctx, history.Query{Namespace: namespace, Limit: 1, Bare: true}) {
		return err
	}
	return fmt.Errorf("nothing happened in the namespace %s: %w", namespace, never)
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
