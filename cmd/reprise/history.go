package main

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections/history"
)

// newHistoryCommand tells what happened to an object.
func newHistoryCommand(env *environment) *cobra.Command {
	p := printer{w: env.Stdout}
	var namespace string
	var follow bool
	c := &cobra.Command{
		Use:   "history OBJECT",
		Short: "Tell what happened to an object, also to one that is gone",
		Example: `  reprise history deployment/web
  reprise history pods/shop/web-7c9 -o yaml
  reprise history 2f0c6a0e-8d1b-4f0e-9f5e-0a54dd3e5a3c --follow`,
		Args: oneObject("pod/web-1"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := p.check(); err != nil {
				return err
			}
			q, err := env.objectQuery(args[0], namespace)
			if err != nil {
				return err
			}
			return env.ask(func(h *historian.Client) error {
				n, err := printAll(p, stream(c.Context(), h, q, follow))
				if err == nil && n == 0 {
					err = fmt.Errorf("there never was an object %s", args[0])
				}
				return err
			})
		},
	}
	c.Flags().StringVarP(&p.format, "output", "o", "", "one of "+strings.Join(formats, ", "))
	c.Flags().StringVarP(&namespace, "namespace", "n", "default", "the namespace of an object that is named without one")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "wait for more")
	return c
}

// stream yields the events of a query, and if asked to those to come.
func stream(ctx context.Context, h *historian.Client, q history.Query, follow bool) iter.Seq2[events.Event, error] {
	if follow {
		return h.Follow(ctx, q)
	}
	return h.Events(ctx, q)
}

// printAll prints events and counts them.
func printAll(p printer, found iter.Seq2[events.Event, error]) (int, error) {
	n := 0
	for e, err := range found {
		if err != nil {
			return n, err
		}
		if err := p.event(&e, ""); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
