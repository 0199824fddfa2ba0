package main

import (
	"bytes"
	"context"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/projections/history"
)

// tabPatience is how long somebody who pressed the tab key waits for proposals.
const tabPatience = 3 * time.Second

// completes has the shell propose values of a flag, and not files.
func completes(c *cobra.Command, flag string, values func() []string) {
	completesWith(c, flag, func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return values(), cobra.ShellCompDirectiveNoFileComp
	})
}

// completesWith has a function propose values of a flag. A flag that is not there is a
// mistake of ours, which every test of the command meets.
func completesWith(c *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err)
	}
}

// eventTypes lists the types of events that the owners table has.
func eventTypes() []string {
	var all []string
	for _, r := range events.Rules() {
		all = append(all, r.Type)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// completesQuestions has the shell propose values of the flags, as far as c has them,
// that narrow a question down: from what the history has.
func (e *environment) completesQuestions(c *cobra.Command) {
	for flag, ask := range map[string]func(context.Context, *historian.Client, string) ([]string, error){
		"namespace": func(ctx context.Context, h *historian.Client, word string) ([]string, error) {
			names, err := h.Propose(ctx, history.Name{Text: "namespaces/" + word})
			for i := range names {
				names[i] = strings.TrimPrefix(names[i], "namespaces/")
			}
			return names, err
		},
		"resource": func(ctx context.Context, h *historian.Client, word string) ([]string, error) {
			return h.Propose(ctx, history.Name{Text: strings.ReplaceAll(word, "/", "")})
		},
		"actor": func(ctx context.Context, h *historian.Client, _ string) ([]string, error) {
			actors, _, err := h.Actors(ctx)
			return actors, err
		},
		"user": func(ctx context.Context, h *historian.Client, _ string) ([]string, error) {
			_, users, err := h.Actors(ctx)
			return users, err
		},
	} {
		if c.Flags().Lookup(flag) == nil {
			continue
		}
		completesWith(c, flag, func(c *cobra.Command, _ []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return e.asked(c, func(ctx context.Context, h *historian.Client) ([]string, error) { return ask(ctx, h, word) }),
				cobra.ShellCompDirectiveNoFileComp
		})
	}
}

// asked is what the history has to propose. A shell that gets nothing shows nothing.
func (e *environment) asked(c *cobra.Command, f func(context.Context, *historian.Client) ([]string, error)) (words []string) {
	ctx, cancel := context.WithTimeout(c.Context(), tabPatience)
	defer cancel()
	_ = e.ask(func(h *historian.Client) (err error) {
		words, err = f(ctx, h)
		return err
	})
	return words
}

// proposesObjects has the shell propose one object or kind of the history. After a kind
// the object follows without a blank.
func (e *environment) proposesObjects(s *selection) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		directive := cobra.ShellCompDirectiveNoFileComp
		if !strings.Contains(word, "/") {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		name := history.Name{Text: word, Namespace: s.namespace, Asked: c.Flags().Changed("namespace")}
		return e.asked(c, func(ctx context.Context, h *historian.Client) ([]string, error) { return h.Propose(ctx, name) }), directive
	}
}

// proposes has the shell propose the names that an operator may give a command, which
// takes one.
func (e *environment) proposes(names func(context.Context, *operatorConnection) ([]string, error)) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) (words []cobra.Completion, _ cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(c.Context(), tabPatience)
		defer cancel()
		if len(args) == 0 {
			_ = e.askAll(func(o *operatorConnection) (err error) { // A shell that gets nothing shows nothing.
				words, err = names(ctx, o)
				return err
			})
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

func integratorNames(ctx context.Context, o *operatorConnection) (names []string, err error) {
	all, err := o.integrators.List(ctx)
	for _, s := range all {
		names = append(names, s.Name)
	}
	return names, err
}

// buriedDeliveries are the deliveries that have dead letters.
func buriedDeliveries(ctx context.Context, o *operatorConnection) ([]string, error) {
	d, err := jetstream.OpenDeliveries(ctx, o.nats, jetstream.Config{})
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for l, err := range d.Buried(ctx, "") {
		if err != nil {
			return nil, err
		}
		names[l.Delivery] = true
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// proposesAsKubectl has the shell propose what kubectl would.
func (e *environment) proposesAsKubectl(c *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if os.Getenv("KUBECONFIG") == "" && os.Setenv("KUBECONFIG", e.Kubeconfig()) != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out bytes.Buffer
	k := e.embeddedKubectl(args)
	k.SetOut(&out)
	k.SetErr(io.Discard)
	k.SetArgs(slices.Concat([]string{cobra.ShellCompRequestCmd}, args, []string{word}))
	if err := k.ExecuteContext(c.Context()); err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	last := lines[len(lines)-1] // ":4", in which way to propose
	directive, err := strconv.Atoi(strings.TrimPrefix(last, ":"))
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return lines[:len(lines)-1], cobra.ShellCompDirective(directive)
}
