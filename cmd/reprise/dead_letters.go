package main

import (
	"context"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/agents/delivery"
	"github.com/reprise-run/reprise/agents/delivery/plan"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
)

// newDeadLettersCommand is about events that could not be delivered.
func newDeadLettersCommand(env *environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "dead-letters",
		Short: "See, deliver again or drop the events that `events --to URL` gave up",
		Args:  noSuchCommand,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newDeadLettersListCommand(env), newDeadLettersRetryCommand(env), newDeadLettersDropCommand(env))
	return c
}

func newDeadLettersListCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "list [DELIVERY]",
		Short: "List the dead letters, and why each is one",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return env.deadLetters(c.Context(), args, nil, func(_ *jetstream.Deliveries, all []events.DeadLetter) error {
				if len(all) == 0 {
					fmt.Fprintln(env.Stderr, "There are no dead letters.")
					return nil
				}
				w := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "DELIVERY\tEVENT\tTYPE\tOBJECT\tATTEMPTS\tGIVEN UP\tREASON")
				for _, l := range all {
					fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%d\t%s\t%s\n", l.Delivery, l.Event.Sequence, l.Event.Type, l.Event.Object,
						l.Attempts, l.At.Local().Format(time.DateTime), l.Reason)
				}
				return w.Flush()
			})
		},
	}
}

func newDeadLettersRetryCommand(env *environment) *cobra.Command {
	var r receiver
	var only []uint
	c := &cobra.Command{
		Use:   "retry DELIVERY",
		Short: "Send dead letters once more, in their order, and drop those that are accepted",
		Example: `  reprise events dead-letters retry billing
  reprise events dead-letters retry billing --event 812 --to https://example.com/events`,
		Args: oneName("delivery"),
		RunE: func(c *cobra.Command, args []string) error {
			return env.deadLetters(c.Context(), args, only, func(d *jetstream.Deliveries, all []events.DeadLetter) error {
				return env.retry(c.Context(), d, all, r)
			})
		},
	}
	c.Flags().StringVar(&r.url, "to", "", "where to send them (default where they were to go)")
	c.Flags().UintSliceVar(&only, "event", nil, "only the dead letter of this event")
	r.requestFlags(c)
	return c
}

func newDeadLettersDropCommand(env *environment) *cobra.Command {
	var only []uint
	var all bool
	c := &cobra.Command{
		Use:   "drop DELIVERY",
		Short: "Forget dead letters; the events stay in the history",
		Args:  oneName("delivery"),
		RunE: func(c *cobra.Command, args []string) error {
			if len(only) == 0 && !all {
				return fmt.Errorf("which ones? Say --event SEQUENCE, or --all")
			}
			return env.deadLetters(c.Context(), args, only, func(d *jetstream.Deliveries, found []events.DeadLetter) error {
				for _, l := range found {
					if err := d.Drop(c.Context(), l.Delivery, l.Event.Sequence); err != nil {
						return err
					}
				}
				fmt.Fprintf(env.Stdout, "%d dead letters of %s are dropped\n", len(found), args[0])
				return nil
			})
		},
	}
	c.Flags().UintSliceVar(&only, "event", nil, "only the dead letter of this event")
	c.Flags().BoolVar(&all, "all", false, "all of them")
	return c
}

// deadLetters finds those of a delivery, or all, and of these only some if any are
// named.
func (e *environment) deadLetters(ctx context.Context, delivery []string, only []uint, f func(*jetstream.Deliveries, []events.DeadLetter) error) error {
	return e.askAll(func(o *operatorConnection) error {
		d, err := jetstream.OpenDeliveries(ctx, o.nats, jetstream.Config{})
		if err != nil {
			return err
		}
		name := ""
		if len(delivery) > 0 {
			name = delivery[0]
		}
		all, err := d.Buried(ctx, name)
		if err != nil {
			return err
		}
		all = onceEach(all)
		if len(all) == 0 && name != "" {
			return fmt.Errorf("delivery %s has no dead letters; `reprise events dead-letters list` shows all there are", name)
		}
		if len(only) == 0 {
			return f(d, all)
		}
		var some []events.DeadLetter
		for _, sequence := range only {
			n := len(some)
			for _, l := range all {
				if l.Event.Sequence == uint64(sequence) {
					some = append(some, l)
					break
				}
			}
			if len(some) == n {
				return fmt.Errorf("delivery %s has no dead letter of event %d", name, sequence)
			}
		}
		return f(d, some)
	})
}

// onceEach leaves out what was buried before, after a crash in between.
func onceEach(all []events.DeadLetter) []events.DeadLetter {
	type letter struct {
		delivery string
		sequence uint64
	}
	seen := map[letter]bool{}
	return slices.DeleteFunc(all, func(l events.DeadLetter) bool {
		is := letter{l.Delivery, l.Event.Sequence}
		again := seen[is]
		seen[is] = true
		return again
	})
}

// retry sends dead letters once more. The first of an object that fails keeps back
// the later ones of that object.
func (e *environment) retry(ctx context.Context, d *jetstream.Deliveries, all []events.DeadLetter, r receiver) error {
	target := r.url
	failed := map[events.Ref]bool{}
	accepted := 0
	for _, l := range all {
		if failed[l.Event.Object] {
			continue
		}
		if r.url = target; target == "" {
			if r.url = l.Target; delivery.Incomplete(r.url) {
				return fmt.Errorf("the address %s has a password or a query, which is not kept with dead letters: give it with --to", r.url)
			}
		}
		w, err := r.webhook()
		if err != nil {
			return err
		}
		if o := w.Send(ctx, &l.Event); o.Verdict != plan.Accepted {
			failed[l.Event.Object] = true
			fmt.Fprintf(e.Stderr, "%s: %s\n", l.Event.Headline(), o.Reason)
			continue
		}
		if err := d.Drop(ctx, l.Delivery, l.Event.Sequence); err != nil {
			return fmt.Errorf("event %d was accepted, and its dead letter is still there: %w", l.Event.Sequence, err)
		}
		accepted++
	}
	fmt.Fprintf(e.Stdout, "%d of %d dead letters were accepted\n", accepted, len(all))
	if accepted < len(all) {
		return fmt.Errorf("%d dead letters stay; `reprise events dead-letters list` shows them", len(all)-accepted)
	}
	return nil
}
