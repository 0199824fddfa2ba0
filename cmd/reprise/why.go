package main

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/projections/history"
)

// newWhyCommand tells what led to an event.
func newWhyCommand(env *environment) *cobra.Command {
	p := printer{w: env.Stdout, thorough: true}
	var s selection
	var down bool
	var limit int
	c := &cobra.Command{
		Use:   "why OBJECT|@SEQUENCE",
		Short: "Tell what led to an object's latest event, back to a person's command",
		Long: `Walks from an event to the event that led to it, and so on, to a person's
command or an outside fact. Of a pod it begins with the newest event of its
containers, or, if it has no node, with why the scheduler found none; of any
other object with its newest event. With --down it tells instead what followed
from an event: of an object, from its latest.`,
		Example: `  reprise why pod/web-7c9
  reprise why @812
  reprise why --down @807 -o json`,
		Args:              oneObject("pod/web-1, or @812 for an event"),
		ValidArgsFunction: env.proposesObjects(&s),
		RunE: func(c *cobra.Command, args []string) error {
			if err := p.check(); err != nil {
				return err
			}
			if limit < 1 {
				return fmt.Errorf("--limit %d would show nothing", limit)
			}
			s.namespaceForced = c.Flags().Changed("namespace")
			return env.ask(func(h *historian.Client) error {
				subject, err := s.subject(c.Context(), h, args[0])
				if err != nil {
					return err
				}
				if down {
					return p.consequences(c.Context(), h, subject.Sequence, limit)
				}
				if err := p.chain(h.Why(c.Context(), subject.Sequence)); err != nil || subject.Remark == "" || !p.forPeople() {
					return err
				}
				_, err = fmt.Fprintln(env.Stdout, shown(subject.Remark))
				return err
			})
		},
	}
	p.flag(c)
	c.Flags().StringVarP(&s.namespace, "namespace", "n", "default", "the namespace of an object that is named without one")
	c.Flags().StringVar(&s.uid, "uid", "", "of several objects that bore the name one after the other, the one with this uid")
	c.Flags().BoolVar(&down, "down", false, "tell what followed from the event, and from that in turn")
	c.Flags().IntVar(&limit, "limit", 200, "how many events --down prints at most")
	env.completesQuestions(c)
	return c
}

// subject finds the event that a person asks about.
func (s *selection) subject(ctx context.Context, h *historian.Client, text string) (history.Subject, error) {
	if number, at := strings.CutPrefix(text, "@"); at || strings.Trim(text, "0123456789") == "" {
		sequence, err := strconv.ParseUint(number, 10, 64)
		if err != nil || sequence == 0 {
			return history.Subject{}, fmt.Errorf("%q is no sequence: write @ and a number from 1 on, as @812", text)
		}
		return history.Subject{Sequence: sequence}, nil
	}
	q, err := s.find(ctx, h, text)
	if err != nil {
		return history.Subject{}, err
	}
	if q.Resource != "" {
		return history.Subject{}, fmt.Errorf("%q is a kind: of which %s do you ask?", text, q.Resource)
	}
	return h.Subject(ctx, q)
}

// limb is the beginning of a line that is so deep in a tree.
func limb(depth int) string {
	if depth == 0 {
		return ""
	}
	return strings.Repeat("   ", depth-1) + "└─ "
}

// consequences prints an event and below it, each a step further in, what followed
// from it.
func (p printer) consequences(ctx context.Context, h *historian.Client, sequence uint64, limit int) error {
	var root history.Told
	for told, err := range h.Why(ctx, sequence) {
		if err != nil {
			return err
		}
		root = told
		break
	}
	tree, more, err := history.Down(root, limit, func(causes []uint64) iter.Seq2[history.Told, error] {
		return h.Following(ctx, causes)
	})
	if err != nil {
		return err
	}
	if p.format == "json" || p.format == "yaml" {
		o, err := nested(tree)
		if err != nil {
			return err
		}
		if more {
			o["more"] = true
		}
		return p.object(o)
	}
	if err := p.tree(tree, 0); err != nil || !more {
		return err
	}
	_, err = fmt.Fprintf(p.w, "There is more than these %d; raise --limit to see it.\n", limit)
	return err
}

func (p printer) tree(t *history.Tree, depth int) error {
	if err := p.event(&t.Told, limb(depth)); err != nil {
		return err
	}
	for _, next := range t.Then {
		if err := p.tree(next, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// nested is a tree as an object: the event, and what followed from it under
// "then".
func nested(t *history.Tree) (map[string]any, error) {
	o, err := cloudEvent(&t.Told)
	if err != nil {
		return nil, err
	}
	var then []any
	for _, next := range t.Then {
		of, err := nested(next)
		if err != nil {
			return nil, err
		}
		then = append(then, of)
	}
	if then != nil {
		o["then"] = then
	}
	return o, nil
}

// ends is how many events of a long chain are shown from its two ends each.
const ends = 12

// chain prints an event and below it, each a step further in, what led to it, and
// says where it all began. The middle of a long chain is left out for people.
func (p printer) chain(found iter.Seq2[history.Told, error]) error {
	var chain []history.Told
	for told, err := range found {
		if err != nil {
			return err
		}
		chain = append(chain, told)
	}
	if p.format == "json" || p.format == "yaml" {
		var because map[string]any
		for _, told := range slices.Backward(chain) {
			o, err := cloudEvent(&told)
			if err != nil {
				return err
			}
			if because != nil {
				o["because"] = because
			}
			because = o
		}
		return p.object(because)
	}
	depth := 0
	for i := 0; i < len(chain); i++ {
		if left := len(chain) - ends; i == ends && left > i+1 && p.format == "" {
			if _, err := fmt.Fprintf(p.w, "%*s  %s… %d more: %s (-o wide shows them)\n", len("2006-01-02 15:04:05"), "", limb(depth), left-i, types(chain[i:left])); err != nil {
				return err
			}
			i = left
			depth++
		}
		if err := p.event(&chain[i], limb(depth)); err != nil {
			return err
		}
		depth++
	}
	return p.beginning(chain)
}

// types counts what happened.
func types(chain []history.Told) string {
	count := map[string]int{}
	for i := range chain {
		count[chain[i].Event.Type]++
	}
	var all []string
	for _, typ := range slices.Sorted(maps.Keys(count)) {
		all = append(all, fmt.Sprintf("%d %s", count[typ], typ))
	}
	return strings.Join(all, ", ")
}

// beginning says where a chain began.
func (p printer) beginning(chain []history.Told) error {
	if !p.forPeople() || len(chain) == 0 {
		return nil
	}
	root := chain[len(chain)-1].Event
	if root.Cause != 0 {
		_, err := fmt.Fprintf(p.w, "What led to that is event %d, from before this history begins.\n", root.Cause)
		return err
	}
	began := "an outside fact, as " + root.Actor.String() + " saw it"
	if root.User != "" {
		began = "a command of " + root.User
		if root.Audit != "" {
			began += ", request " + root.Audit
		}
	}
	_, err := fmt.Fprintf(p.w, "It began with %s.\n", shown(began))
	return err
}
