package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections/history"
)

// newWhyCommand tells what led to an event.
func newWhyCommand(env *environment) *cobra.Command {
	p := printer{w: env.Stdout}
	var namespace string
	var down bool
	var limit int
	c := &cobra.Command{
		Use:   "why OBJECT|@SEQUENCE",
		Short: "Tell what led to an object's latest event, back to a person's command",
		Long: `Walks from an event to the event that led to it, and so on, to a person's
command or an outside fact. Of a pod it begins with the newest event of its
containers, of any other object with its newest event. With --down it tells
instead what followed from an event: of an object, from its latest.`,
		Example: `  reprise why pod/web-7c9
  reprise why @812
  reprise why --down @807`,
		Args: oneObject("pod/web-1, or @812 for an event"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := p.check(); err != nil {
				return err
			}
			return env.ask(func(h *historian.Client) error {
				sequence, err := env.whichEvent(c, h, args[0], namespace)
				if err != nil {
					return err
				}
				if down {
					return printConsequences(c.Context(), p, h, sequence, limit)
				}
				chain, err := h.Why(c.Context(), sequence)
				if err != nil {
					return err
				}
				return printChain(p, chain)
			})
		},
	}
	c.Flags().StringVarP(&p.format, "output", "o", "", "one of "+strings.Join(formats, ", "))
	c.Flags().StringVarP(&namespace, "namespace", "n", "default", "the namespace of an object that is named without one")
	c.Flags().BoolVar(&down, "down", false, "tell what followed from the event, and from that in turn")
	c.Flags().IntVar(&limit, "limit", 200, "how many events --down prints at most")
	return c
}

// printConsequences prints an event and below it, each a step further in, what
// followed from it.
func printConsequences(ctx context.Context, p printer, h *historian.Client, sequence uint64, limit int) error {
	tree, more, err := h.Down(ctx, sequence, limit)
	if err != nil {
		return err
	}
	var walk func(t *history.Tree, depth int) error
	walk = func(t *history.Tree, depth int) error {
		indent := ""
		if depth > 0 {
			indent = strings.Repeat("   ", depth-1) + "└─ "
		}
		if err := p.event(&t.Event, indent); err != nil {
			return err
		}
		for _, next := range t.Then {
			if err := walk(next, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	if err := walk(tree, 0); err != nil || !more {
		return err
	}
	_, err = fmt.Fprintf(p.w, "There is more than these %d; raise --limit to see it.\n", limit)
	return err
}

// whichEvent finds the event that a person asks about.
func (e *environment) whichEvent(c *cobra.Command, h *historian.Client, name, namespace string) (uint64, error) {
	if at, ok := strings.CutPrefix(name, "@"); ok {
		sequence, err := strconv.ParseUint(at, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%q is no sequence: write @ and a number", name)
		}
		return sequence, nil
	}
	q, err := e.objectQuery(name, namespace)
	if err != nil {
		return 0, err
	}
	if q.Object.Resource == "pods" && q.Object.Group == "" {
		of := q
		of.Type = "container.*"
		if newest, err := newestEvent(c.Context(), h, of); err != nil || newest != 0 {
			return newest, err
		}
	}
	newest, err := newestEvent(c.Context(), h, q)
	if err == nil && newest == 0 {
		err = fmt.Errorf("there never was an object %s", name)
	}
	return newest, err
}

// newestEvent returns the sequence of the newest event of a query, 0 if it has
// none.
func newestEvent(ctx context.Context, h *historian.Client, q history.Query) (uint64, error) {
	q.Backward, q.Limit = true, 1
	for e, err := range h.Events(ctx, q) {
		return e.Sequence, err
	}
	return 0, nil
}

// printChain prints an event and below it, each a step further in, what led to
// it, and says where it all began.
func printChain(p printer, chain []events.Event) error {
	for i := range chain {
		indent := ""
		if i > 0 {
			indent = strings.Repeat("   ", i-1) + "└─ "
		}
		if err := p.event(&chain[i], indent); err != nil {
			return err
		}
	}
	if p.format == "json" || p.format == "yaml" || p.format == "text" || len(chain) == 0 {
		return nil
	}
	root := chain[len(chain)-1]
	began := "an outside fact, as " + root.Actor.String() + " saw it"
	if root.User != "" {
		began = "a command of " + root.User
		if root.Audit != "" {
			began += ", request " + root.Audit
		}
	}
	_, err := fmt.Fprintf(p.w, "It began with %s.\n", began)
	return err
}
