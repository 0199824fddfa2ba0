package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/projections/history"
)

// newHistoryCommand tells what happened to an object, or to many.
func newHistoryCommand(env *environment) *cobra.Command {
	p := printer{w: env.Stdout}
	var s selection
	var t telling
	c := &cobra.Command{
		Use:   "history [OBJECT|KIND]",
		Short: "Tell what happened to an object, also to one that is gone",
		Long: `Tells what happened: to an object, to all objects of a kind, in a namespace, by
somebody's hand; also to what is gone. Each event is a line that says what
happened to what, by whom and because of which event, with what changed below it.
Bookkeeping, as managed fields, is only shown by -o wide.

An OBJECT is written as kubectl does (pod/web-1), as the log does
(pods/shop/web-1), as a uid, or by its name alone if there is only one of it.`,
		Example: `  reprise history deployment/web
  reprise history pods/shop/web-7c9 -o yaml
  reprise history -n shop --from 02:30 --to 03:10
  reprise history pods -n shop --type 'container.*' --follow
  reprise history --user alice --since 1h
  reprise history 2f0c6a0e-8d1b-4f0e-9f5e-0a54dd3e5a3c`,
		Args:              atMostOneObject("pod/web-1"),
		ValidArgsFunction: env.proposesObjects(&s),
		RunE: func(c *cobra.Command, args []string) error {
			if err := errors.Join(p.check(), t.check()); err != nil {
				return err
			}
			if err := s.check(c, args); err != nil {
				return err
			}
			return env.ask(func(h *historian.Client) error {
				q, err := s.query(c.Context(), h, args)
				if err != nil {
					return err
				}
				n, err := p.told(t.events(c.Context(), h, q))
				if err == nil && n == 0 && !t.follow {
					return env.nothing(c.Context(), h, q)
				}
				return err
			})
		},
	}
	p.flag(c)
	s.flags(c)
	t.flags(c)
	env.completesQuestions(c)
	return c
}

// telling is how many events a person wants to see, and in which order.
type telling struct {
	follow, reverse bool
	limit           int
}

func (t *telling) flags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVarP(&t.follow, "follow", "f", false, "wait for more")
	f.BoolVar(&t.reverse, "reverse", false, "the newest first")
	f.IntVar(&t.limit, "limit", 0, "only the newest so many")
}

func (t *telling) check() error {
	switch {
	case t.reverse && t.follow:
		return errors.New("--reverse and --follow contradict each other: what is to come cannot be told first")
	case t.limit < 0:
		return fmt.Errorf("--limit %d is less than none", t.limit)
	}
	return nil
}

// events yields what a query asks for, in the order and number that was asked for.
func (t *telling) events(ctx context.Context, h *historian.Client, q history.Query) iter.Seq2[history.Told, error] {
	switch {
	case t.reverse:
		q.Backward, q.Limit = true, t.limit
		return h.Tell(ctx, q)
	case t.limit == 0 && t.follow:
		return h.FollowTold(ctx, q)
	case t.limit == 0:
		return h.Tell(ctx, q)
	}
	return func(yield func(history.Told, error) bool) {
		end, err := h.Resolve(ctx, history.Point{})
		if err != nil {
			yield(history.Told{}, err)
			return
		}
		newest := q
		newest.Backward, newest.Limit = true, t.limit
		if newest.Last == 0 || newest.Last > end {
			newest.Last = end
		}
		var found []history.Told
		for told, err := range h.Tell(ctx, newest) {
			if err != nil {
				yield(told, err)
				return
			}
			found = append(found, told)
		}
		for _, told := range slices.Backward(found) {
			if !yield(told, nil) {
				return
			}
		}
		if t.follow {
			q.First = max(q.First, end+1)
			h.FollowTold(ctx, q)(yield)
		}
	}
}

// told prints events and counts them. Where another object begins to bear the name
// it says so.
func (p printer) told(found iter.Seq2[history.Told, error]) (int, error) {
	n := 0
	uids := map[string]string{}
	for t, err := range found {
		if err != nil {
			return n, err
		}
		name := t.Event.Object.String()
		if was := uids[name]; was != "" && was != t.Event.UID && p.forPeople() {
			if _, err := fmt.Fprintf(p.w, "%s%s was %s before this line and is %s after it: two objects bore this name (--uid shows one)\n",
				strings.Repeat("-", 4)+" ", name, was, t.Event.UID); err != nil {
				return n, err
			}
		}
		uids[name] = t.Event.UID
		if err := p.event(&t, ""); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
