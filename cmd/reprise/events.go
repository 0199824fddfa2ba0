package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/projections/history"
)

// newEventsCommand shows the log.
func newEventsCommand(env *environment) *cobra.Command {
	p := printer{w: env.Stdout}
	var q history.Query
	var follow bool
	var s selection
	var r receiver
	c := &cobra.Command{
		Use:   "events",
		Short: "Show the events of the whole cluster, or deliver them to a URL",
		Example: `  reprise events --filter pod.bound
  reprise events --filter 'container.*' --namespace shop --since 10m
  reprise events --user admin --follow
  reprise events --to https://example.com/events --filter 'pod.*' --durable billing`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			if strings.Contains(s.to, "://") {
				r.url, s.to = s.to, ""
			}
			if _, err := history.ParsePoint(s.to, time.Now()); s.to != "" && err != nil {
				return fmt.Errorf("--to %q is neither a moment nor an address such as https://example.com/events", s.to)
			}
			if err := errors.Join(p.check(), checkType("--filter", q.Type), s.checkMoments()); err != nil {
				return err
			}
			s.ahead = follow || r.url != ""
			if r.url != "" {
				if p.format != "" {
					return errors.New("--output is how events are shown here, and --to with a URL delivers them as CloudEvents: leave one of them out")
				}
				return env.deliver(c.Context(), q, s, r)
			}
			return env.ask(func(h *historian.Client) error {
				if err := s.during(c.Context(), h, &q); err != nil {
					return err
				}
				n, err := p.told((&telling{follow: follow}).events(c.Context(), h, q))
				if err == nil && n == 0 && !follow {
					return env.nothing(c.Context(), h, q)
				}
				return err
			})
		},
	}
	p.flag(c)
	f := c.Flags()
	f.StringVar(&q.Type, "filter", "", "only events of a type, as pod.bound, 'pod.*' or '*.created'")
	f.StringVarP(&q.Namespace, "namespace", "n", "", "only events about objects in a namespace")
	f.StringVar(&q.Resource, "resource", "", "only events about a resource, as pods or deployments.apps")
	f.StringVar(&q.Actor, "actor", "", "only events that an actor wrote, as scheduler or node:n1")
	f.StringVar(&q.User, "user", "", "only events on request of a user")
	f.StringVar(&s.from, "from", "", "only events from a moment on: "+moments)
	f.StringVar(&s.to, "to", "", "only events up to a moment; or the URL to deliver them to, as CloudEvents over HTTP")
	f.Var((*while)(&s.since), "since", "only events of the last while, as 10m or 3d")
	f.BoolVarP(&follow, "follow", "f", false, "wait for more")
	completes(c, "filter", eventTypes)
	r.flags(c)
	env.completesQuestions(c)
	c.AddCommand(newDeadLettersCommand(env))
	return c
}
