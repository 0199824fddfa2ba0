package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/agents/integrator"
	"github.com/reprise-run/reprise/projections/history"
)

// selection is which events a person asks for, in flags and at most one name.
type selection struct {
	namespace       string
	everywhere      bool
	uid             string
	typ             string
	actor, user     string
	from, to        string
	since           time.Duration
	namespaceForced bool
	// ahead is whether an event that is to come may be named, to wait for it.
	ahead bool
}

// flags adds what narrows a question down.
func (s *selection) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVarP(&s.namespace, "namespace", "n", "default", "the namespace; without an OBJECT, all of what happened in it")
	f.BoolVarP(&s.everywhere, "all-namespaces", "A", false, "all namespaces, and what is in none")
	f.StringVar(&s.uid, "uid", "", "of several objects that bore the name one after the other, the one with this uid")
	f.StringVar(&s.typ, "type", "", "only events of a type, as pod.bound, 'container.*' or '*.created'")
	f.StringVar(&s.actor, "actor", "", "only what an actor wrote, as scheduler or controller:deployment")
	f.StringVar(&s.user, "user", "", "only what was done on request of a user")
	f.StringVar(&s.from, "from", "", "only from a moment on: "+moments)
	f.StringVar(&s.to, "to", "", "only up to a moment")
	f.Var((*while)(&s.since), "since", "only the last while, as 10m or 3d")
	completes(c, "type", eventTypes)
}

// moments says how a point in time is written.
const moments = "10:42, '2026-11-26 10:42', RFC 3339, -15m, @812 (an event)"

// while is a flag that says for how long, in the words in which a moment says how long
// ago it was.
type while time.Duration

// Set implements pflag.Value.
func (w *while) Set(text string) error {
	if strings.HasPrefix(text, "-") {
		return errors.New("that is in the future: write it without a sign, as 10m")
	}
	now := time.Now()
	begin, err := history.ParsePoint("-"+text, now)
	if err != nil {
		return errors.New("write a while as 10m, 2h30m or 3d; --from takes a time or an event")
	}
	*w = while(now.Sub(begin.Time))
	return nil
}

// Type implements pflag.Value.
func (w *while) Type() string { return "duration" }

// String implements pflag.Value.
func (w *while) String() string {
	if *w == 0 {
		return ""
	}
	return time.Duration(*w).String()
}

// check refuses what contradicts itself, and to tell all that ever happened unless
// that is asked for.
func (s *selection) check(c *cobra.Command, args []string) error {
	s.namespaceForced = c.Flags().Changed("namespace")
	switch {
	case s.everywhere && s.namespaceForced:
		return errors.New("--namespace and --all-namespaces contradict each other: give one of them")
	case s.checkMoments() != nil:
		return s.checkMoments()
	case checkType("--type", s.typ) != nil:
		return checkType("--type", s.typ)
	case len(args) > 0 || s.everywhere || s.namespaceForced || s.uid != "" || s.typ != "" || s.actor != "" || s.user != "":
		return nil
	}
	return fmt.Errorf("what history? Say for example: %s pod/web-1, %s -n shop, or --help", c.CommandPath(), c.CommandPath())
}

// checkMoments refuses what names no moment.
func (s *selection) checkMoments() error {
	switch {
	case s.since != 0 && s.from != "":
		return errors.New("--since and --from both say where to begin: give one of them")
	}
	for _, of := range []struct{ flag, text string }{{"--from", s.from}, {"--to", s.to}} {
		if of.text == "" {
			continue
		}
		if _, err := history.ParsePoint(of.text, time.Now()); err != nil {
			return fmt.Errorf("%s: %w", of.flag, err)
		}
	}
	return nil
}

// checkType refuses what a flag gives as a type of event and is none.
func checkType(flag, typ string) error {
	if typ == "" {
		return nil
	}
	if _, fact, _ := strings.Cut(typ, "."); strings.Count(typ, ".") == 1 && fact != "" {
		if err := integrator.CheckFact(fact); fact != "*" && err != nil {
			return fmt.Errorf("%s %q is no type of event: %w", flag, typ, err)
		}
		return nil
	}
	return fmt.Errorf("%s %q is no type of event: write its noun and its fact, as pod.bound, or * for either, as '%s.*'", flag, typ, strings.Trim(typ, ".*"))
}

// query is the question, with the name looked up and the moments found.
func (s *selection) query(ctx context.Context, h *historian.Client, args []string) (q history.Query, err error) {
	switch {
	case len(args) > 0:
		if q, err = s.find(ctx, h, args[0]); err != nil {
			return q, err
		}
	case s.uid != "":
		if q, err = s.find(ctx, h, s.uid); err != nil {
			return q, err
		}
	case s.namespaceForced:
		q.Namespace = s.namespace
	}
	q.Type, q.Actor, q.User = s.typ, s.actor, s.user
	err = s.during(ctx, h, &q)
	return q, err
}

// during finds the moments between which to look.
func (s *selection) during(ctx context.Context, h *historian.Client, q *history.Query) error {
	var begin, end uint64
	if s.since > 0 {
		q.Since = time.Now().Add(-s.since)
	}
	if s.from != "" {
		p, sequence, err := s.moment(ctx, h, s.from)
		if err != nil {
			return fmt.Errorf("--from: %w", err)
		}
		if begin, q.Since = sequence, p.Time; p.Time.IsZero() {
			q.First = sequence
		}
	}
	if s.to != "" {
		p, sequence, err := s.moment(ctx, h, s.to)
		if err != nil {
			return fmt.Errorf("--to: %w", err)
		}
		if end, q.Until = sequence, p.Time; p.Time.IsZero() {
			q.Last = sequence
		}
		if begin > end || !q.Since.IsZero() && !q.Until.IsZero() && q.Since.After(q.Until) {
			return fmt.Errorf("nothing happened from %s to %s: the one comes after the other", cmp.Or(s.from, "-"+s.since.String()), s.to)
		}
	}
	return nil
}

// moment finds the sequence of a point, as resolve does.
func (s *selection) moment(ctx context.Context, h *historian.Client, text string) (history.Point, uint64, error) {
	p, err := history.ParsePoint(text, time.Now())
	if err != nil || s.ahead && p.Sequence != 0 {
		return p, p.Sequence, err
	}
	sequence, err := h.Resolve(ctx, p)
	return p, sequence, err
}

// find looks a name up, and sees to it that the uid that was asked for is one of
// those that bore it.
func (s *selection) find(ctx context.Context, h *historian.Client, text string) (history.Query, error) {
	name := history.Name{Text: text, Namespace: s.namespace, Asked: s.namespaceForced}
	q, err := h.Find(ctx, name)
	if _, not := history.ParsePoint(text, time.Now()); errors.As(err, new(historian.Refusal)) && not == nil {
		return q, fmt.Errorf("%q is a moment, and no object ever bore that name: moments follow --from and --to of history and diff", text)
	}
	if err != nil || s.uid == "" || q.UID == s.uid {
		return q, err
	}
	of, err := h.Find(ctx, history.Name{Text: s.uid})
	if err != nil {
		return q, err
	}
	if of.Object != q.Object {
		return q, fmt.Errorf("the uid %s is that of %s, not of %s", s.uid, of.Object, text)
	}
	return of, nil
}
