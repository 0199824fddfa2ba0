package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/projections/history"
)

// newDiffCommand tells what is different between two moments.
func newDiffCommand(env *environment) *cobra.Command {
	p := printer{w: env.Stdout}
	var s selection
	var selector string
	var code bool
	c := &cobra.Command{
		Use:   "diff --from MOMENT [--to MOMENT] [OBJECT|KIND]",
		Short: "Tell what is different between two moments",
		Long: `Compares the objects at two moments: those that were added (+), removed (-) and
changed (~), with the newest event of each, of which ` + "`reprise why`" + ` tells the rest.
Objects that came and went in between, and those of which only bookkeeping
changed, are counted; -o wide shows them.

The exit status is 0 whether there are differences or not, 1 on an error. With
--exit-code it is 1 if there are differences, and 2 on an error.`,
		Example: `  reprise diff --from -15m
  reprise diff --from 02:30 --to 03:10 -n shop
  reprise diff --from @700 --to @830 deployment/web
  reprise diff --from -1h pods -l app=web`,
		Args:              atMostOneObject("pod/web-1"),
		ValidArgsFunction: env.proposesObjects(&s),
		RunE: func(c *cobra.Command, args []string) error {
			d := differences{printer: p}
			err := s.differ(c, args, selector, func() error {
				return env.ask(func(h *historian.Client) error {
					w, err := s.between(c.Context(), h, args)
					if err != nil {
						return err
					}
					w.Labels = selector
					return d.print(c.Context(), h, w)
				})
			})
			switch {
			case code && err != nil:
				fmt.Fprintf(env.Stderr, "reprise: %v\n", err)
				return exitCode(2)
			case code && d.any():
				return exitCode(1)
			}
			return err
		},
	}
	d := c.Flags()
	d.StringVarP(&p.format, "output", "o", "", "one of wide, json, yaml")
	d.StringVar(&s.from, "from", "", "the first moment: "+moments)
	d.StringVar(&s.to, "to", "now", "the second moment")
	d.StringVarP(&s.namespace, "namespace", "n", "default", "only objects in a namespace")
	d.BoolVarP(&s.everywhere, "all-namespaces", "A", false, "all namespaces, and what is in none; so it is without --namespace")
	d.StringVarP(&selector, "selector", "l", "", "only objects with such labels at either moment, as app=web")
	env.completesQuestions(c)
	d.BoolVar(&code, "exit-code", false, "exit with 1 if there are differences, with 2 on an error")
	c.PreRunE = func(*cobra.Command, []string) error {
		if p.format == "text" {
			return errors.New("--output text is for events: say wide, json or yaml")
		}
		return p.check()
	}
	return c
}

// differ refuses what cannot be compared, and else does it.
func (s *selection) differ(c *cobra.Command, args []string, selector string, do func() error) error {
	s.namespaceForced = c.Flags().Changed("namespace")
	switch {
	case s.from == "":
		return fmt.Errorf("from when? Say for example: %s --from -15m", c.CommandPath())
	case s.everywhere && s.namespaceForced:
		return errors.New("--namespace and --all-namespaces contradict each other: give one of them")
	}
	if _, err := labels.Parse(selector); err != nil {
		return fmt.Errorf("--selector %q: %w", selector, err)
	}
	return do()
}

// between finds the two moments and the objects to compare.
func (s *selection) between(ctx context.Context, h *historian.Client, args []string) (w history.Range, err error) {
	if w.From, err = resolve(ctx, h, s.from); err != nil {
		return w, fmt.Errorf("--from: %w", err)
	}
	if w.To, err = resolve(ctx, h, s.to); err != nil {
		return w, fmt.Errorf("--to: %w", err)
	}
	if w.From > w.To {
		return w, fmt.Errorf("--from %s is after --to %s: event %d comes after event %d", s.from, s.to, w.From, w.To)
	}
	if s.namespaceForced {
		w.Namespace = s.namespace
	}
	if len(args) == 1 {
		q, err := s.find(ctx, h, args[0])
		if err != nil {
			return w, err
		}
		if w.Object, w.UID, w.Resource = q.Object, q.UID, q.Resource; q.Resource == "" {
			w.Namespace = ""
		}
	}
	return w, nil
}

// differences prints what differs, and counts it.
type differences struct {
	printer
	added, removed, changed, fleeting, bookkeeping int
}

func (d *differences) any() bool { return d.added+d.removed+d.changed > 0 }

// seen is any, with what is only counted.
func (d *differences) seen() bool { return d.any() || d.fleeting+d.bookkeeping > 0 }

func (d *differences) print(ctx context.Context, h *historian.Client, w history.Range) error {
	var all []history.Difference
	for of, err := range h.Between(ctx, w) {
		if err != nil {
			return err
		}
		if d.count(&of) || d.format == "wide" {
			all = append(all, of)
		}
	}
	slices.SortFunc(all, func(a, b history.Difference) int {
		return cmp.Or(a.Object.Compare(b.Object), cmp.Compare(a.Touched, b.Touched))
	})
	for i := range all {
		if err := d.one(&all[i]); err != nil {
			return err
		}
	}
	if !d.seen() {
		if err := nothingIn(ctx, h, w.Namespace); err != nil {
			return err
		}
	}
	if !d.forPeople() {
		return nil
	}
	_, err := fmt.Fprintf(d.w, "between event %d and event %d: %s\n", w.From, w.To, d.summary())
	return err
}

// count says whether a difference is one that people look for.
func (d *differences) count(of *history.Difference) bool {
	switch {
	case of.Fleeting():
		d.fleeting++
		return false
	case of.Bookkeeping():
		d.bookkeeping++
		return false
	case of.Before == 0:
		d.added++
	case of.After == 0:
		d.removed++
	default:
		d.changed++
	}
	return true
}

func (d *differences) summary() string {
	if !d.seen() {
		return "nothing is different"
	}
	parts := []string{fmt.Sprintf("%d added, %d removed, %d changed", d.added, d.removed, d.changed)}
	if d.fleeting > 0 {
		parts = append(parts, fmt.Sprintf("%d came and went", d.fleeting))
	}
	if d.bookkeeping > 0 {
		parts = append(parts, fmt.Sprintf("%d changed in bookkeeping only", d.bookkeeping))
	}
	return strings.Join(parts, "; ")
}

// one prints a difference.
func (d *differences) one(of *history.Difference) error {
	if !d.forPeople() {
		return d.object(asObject(of))
	}
	by := "by " + of.Actor.String()
	if of.User != "" {
		by += " for " + of.User
	}
	times := "1 event"
	if of.Events > 1 {
		times = fmt.Sprintf("%d events", of.Events)
	}
	line := fmt.Sprintf("%s %s  %s, the last is %d %s", mark(of), of.Object, times, of.Newest, by)
	if of.Another {
		line += "; it is another object of this name"
	}
	if _, err := fmt.Fprintln(d.w, shown(line)); err != nil {
		return err
	}
	for _, change := range d.changes(of.Changes) {
		if _, err := fmt.Fprintf(d.w, "    %s\n", shown(change)); err != nil {
			return err
		}
	}
	return nil
}

func mark(of *history.Difference) string {
	switch {
	case of.Fleeting():
		return "±"
	case of.Before == 0:
		return "+"
	case of.After == 0:
		return "-"
	}
	return "~"
}

// asObject is a difference for programs.
func asObject(of *history.Difference) map[string]any {
	o := map[string]any{
		"object": of.Object.String(), "difference": map[string]string{"+": "added", "-": "removed", "~": "changed"}[mark(of)],
		"events": of.Events, "first": of.Touched, "last": of.Newest, "actor": of.Actor.String(),
	}
	if of.User != "" {
		o["user"] = of.User
	}
	if of.Before != 0 {
		o["before"] = of.Before
	}
	if of.After != 0 {
		o["after"] = of.After
	}
	if of.Another {
		o["another"] = true
	}
	if len(of.Changes) > 0 {
		o["changes"] = of.Changes
	}
	return o
}
