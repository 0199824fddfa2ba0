package main

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
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
	p := printer{w: env.Stdout}
	c := &cobra.Command{
		Use:               "list [DELIVERY]",
		Short:             "List the dead letters, and why each is one",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: env.proposes(buriedDeliveries),
		RunE: func(c *cobra.Command, args []string) error {
			if err := p.checkObjects(); err != nil {
				return err
			}
			return env.deadLetters(c.Context(), args, nil, func(_ *jetstream.Deliveries, found letters) error {
				switch {
				case p.format != "":
					return p.letters(found)
				case found.count == 0:
					fmt.Fprintln(env.Stderr, "There are no dead letters.")
					return nil
				}
				w := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "DELIVERY\tEVENT\tTYPE\tOBJECT\tATTEMPTS\tGIVEN UP\tREASON")
				for l, err := range found.all {
					if err != nil {
						return err
					}
					fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%d\t%s\t%s\n", l.Delivery, l.Event.Sequence, l.Event.Type, l.Event.Object,
						l.Attempts, l.At.Local().Format(time.DateTime), l.Reason)
				}
				return w.Flush()
			})
		},
	}
	p.objectsFlag(c)
	return c
}

// letters prints each as an object.
func (p printer) letters(found letters) error {
	for l, err := range found.all {
		if err != nil {
			return err
		}
		o := map[string]any{
			"delivery": l.Delivery, "target": l.Target, "event": l.Event.Sequence, "type": l.Event.Type, "object": l.Event.Object.String(),
			"attempts": l.Attempts, "since": l.Since.UTC().Format(time.RFC3339), "givenUp": l.At.UTC().Format(time.RFC3339), "reason": l.Reason,
		}
		if err := p.object(o); err != nil {
			return err
		}
	}
	return nil
}

func newDeadLettersRetryCommand(env *environment) *cobra.Command {
	var r receiver
	var only []uint
	c := &cobra.Command{
		Use:   "retry DELIVERY",
		Short: "Send dead letters once more, in their order, and drop those that are accepted",
		Example: `  reprise events dead-letters retry billing
  reprise events dead-letters retry billing --event 812 --to https://example.com/events`,
		Args:              oneName("delivery"),
		ValidArgsFunction: env.proposes(buriedDeliveries),
		RunE: func(c *cobra.Command, args []string) error {
			return env.deadLetters(c.Context(), args, only, func(d *jetstream.Deliveries, found letters) error {
				return env.retry(c.Context(), d, found, r)
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
		Use:               "drop DELIVERY",
		Short:             "Forget dead letters; the events stay in the history",
		Args:              oneName("delivery"),
		ValidArgsFunction: env.proposes(buriedDeliveries),
		RunE: func(c *cobra.Command, args []string) error {
			if len(only) == 0 && !all {
				return fmt.Errorf("which ones? Say --event SEQUENCE, or --all")
			}
			return env.deadLetters(c.Context(), args, only, func(d *jetstream.Deliveries, found letters) error {
				for l, err := range found.all {
					if err != nil {
						return err
					}
					if err := d.Drop(c.Context(), l.Delivery, l.Event.Sequence); err != nil {
						return err
					}
				}
				fmt.Fprintf(env.Stdout, "%d dead letters of %s are dropped\n", found.count, args[0])
				return nil
			})
		},
	}
	c.Flags().UintSliceVar(&only, "event", nil, "only the dead letter of this event")
	c.Flags().BoolVar(&all, "all", false, "all of them")
	return c
}

// letters are dead letters, each once, and how many there are. There may be very many.
type letters struct {
	all   iter.Seq2[events.DeadLetter, error]
	count int
}

// deadLetters finds those of a delivery, or all, and of these only some if any are
// named.
func (e *environment) deadLetters(ctx context.Context, delivery []string, only []uint, f func(*jetstream.Deliveries, letters) error) error {
	return e.askAll(func(o *operatorConnection) error {
		d, err := jetstream.OpenDeliveries(ctx, o.nats, jetstream.Config{})
		if err != nil {
			return err
		}
		name := strings.Join(delivery, "")
		missing := map[uint64]bool{}
		for _, sequence := range only {
			missing[uint64(sequence)] = true
		}
		named := maps.Clone(missing)
		found := letters{all: onceEach(d.Buried(ctx, name), named)}
		for l, err := range found.all {
			if err != nil {
				return err
			}
			found.count++
			delete(missing, l.Event.Sequence)
		}
		if len(missing) > 0 {
			return fmt.Errorf("delivery %s has no dead letter of event %d", name, slices.Min(slices.Collect(maps.Keys(missing))))
		}
		if found.count == 0 && name != "" {
			return fmt.Errorf("delivery %s has no dead letters; `reprise events dead-letters list` shows all there are", name)
		}
		return f(d, found)
	})
}

// onceEach leaves out what was buried before, after a crash in between, and if events
// are named those of others.
func onceEach(all iter.Seq2[events.DeadLetter, error], named map[uint64]bool) iter.Seq2[events.DeadLetter, error] {
	type letter struct {
		delivery string
		sequence uint64
	}
	return func(yield func(events.DeadLetter, error) bool) {
		seen := map[letter]bool{}
		for l, err := range all {
			is := letter{l.Delivery, l.Event.Sequence}
			if err == nil && (seen[is] || len(named) > 0 && !named[is.sequence]) {
				continue
			}
			seen[is] = true
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}

// retry sends dead letters once more. The first of an object that fails keeps back
// the later ones of that object.
func (e *environment) retry(ctx context.Context, d *jetstream.Deliveries, found letters, r receiver) error {
	target := r.url
	failed := map[events.Ref]bool{}
	accepted := 0
	for l, err := range found.all {
		if err != nil {
			return err
		}
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
	fmt.Fprintf(e.Stdout, "%d of %d dead letters were accepted\n", accepted, found.count)
	if accepted < found.count {
		return fmt.Errorf("%d dead letters stay; `reprise events dead-letters list` shows them", found.count-accepted)
	}
	return nil
}
