package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/agents/delivery"
	"github.com/reprise-run/reprise/agents/delivery/plan"
	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/projections/history"
)

// receiver says where and how to deliver events.
type receiver struct {
	url, durable string
	structured   bool
	headers      []string
	timeout      time.Duration
	giveUp       time.Duration
	parallel     int
}

// flags adds those about a delivery to a command.
func (r *receiver) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&r.durable, "durable", "", "with --to URL: the name under which the position is kept (default one for this address and filter)")
	f.DurationVar(&r.giveUp, "give-up-after", plan.Defaults().GiveUp, "with --to URL: how long to try to deliver one event before it is a dead letter")
	f.IntVar(&r.parallel, "parallel", plan.Defaults().Parallel, "with --to URL: how many events are under way at a time, each of another object")
	r.requestFlags(c)
}

// requestFlags are the flags about a single request.
func (r *receiver) requestFlags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&r.structured, "structured", false, "when delivering: put the whole CloudEvent into the body, as application/cloudevents+json")
	f.StringArrayVar(&r.headers, "header", nil, "when delivering: send this header along, as 'Authorization: Bearer ...'; can be given several times")
	f.DurationVar(&r.timeout, "timeout", 30*time.Second, "when delivering: how long to wait for an answer")
}

// webhook is the sender that the flags describe.
func (r *receiver) webhook() (*delivery.Webhook, error) {
	w, err := delivery.NewWebhook(r.url, r.timeout)
	if err != nil {
		return nil, fmt.Errorf("--to: %w", err)
	}
	w.Structured = r.structured
	for _, h := range r.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, fmt.Errorf("--header %q is no header: write for example 'Authorization: Bearer ...'", h)
		}
		w.Header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return w, nil
}

// name is that of the delivery: the same command goes on where it stopped, also with
// a later version of this program.
func (r *receiver) name(q history.Query) string {
	if r.durable != "" {
		return r.durable
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", []string{r.url, q.Type, q.Namespace, q.Resource, q.Actor, q.User}))
	return "to-" + hex.EncodeToString(sum[:6])
}

// begins is the first event of a new delivery.
func (s *selection) begins(ctx context.Context, h *historian.Client) (uint64, error) {
	p, sequence, err := s.moment(ctx, h, cmp.Or(s.from, "now"))
	if err != nil {
		return 0, fmt.Errorf("--from: %w", err)
	}
	if p.Sequence != 0 {
		return sequence, nil
	}
	return sequence + 1, nil
}

// deliver sends the events that q asks for to the receiver until ctx ends.
func (e *environment) deliver(ctx context.Context, q history.Query, s selection, r receiver) error {
	w, err := r.webhook()
	if err != nil {
		return err
	}
	if r.parallel < 1 || r.giveUp < 0 || r.timeout <= 0 {
		return errors.New("--parallel, --give-up-after and --timeout must be more than nothing")
	}
	if s.since != 0 {
		return errors.New("a delivery goes on for ever; say with --from where a new one begins")
	}
	return e.askAll(func(o *operatorConnection) error {
		deliveries, err := jetstream.OpenDeliveries(ctx, o.nats, jetstream.Config{})
		if err != nil {
			return err
		}
		begin, err := s.begins(ctx, o.history)
		if err != nil {
			return err
		}
		name := r.name(q)
		opts := plan.Defaults()
		opts.GiveUp, opts.Parallel, opts.Seed = r.giveUp, r.parallel, uint64(time.Now().UnixNano())
		err = delivery.Run(ctx, delivery.Options{
			Name: name, Source: historySource{o.history, q}, Sender: w, Deliveries: deliveries, Plan: opts,
			Begin: events.DeliveryPosition{Read: begin - 1},
			Log:   slog.New(slog.NewTextHandler(e.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})),
			Claimed: func(at events.DeliveryPosition, known bool) {
				verb := "begins"
				if known {
					verb = "goes on"
				}
				fmt.Fprintf(e.Stdout, "Delivery %s to %s %s after event %d. Ctrl-C stops it; the same command goes on.\n", name, w.Target(), verb, at.Read)
			},
		})
		if ctx.Err() != nil {
			return nil
		}
		return err
	})
}

// historySource reads the events to be delivered from the history.
type historySource struct {
	client *historian.Client
	query  history.Query
}

// Event is delivery.Source's.
func (s historySource) Event(ctx context.Context, sequence uint64) (events.Event, error) {
	for e, err := range s.client.Events(ctx, history.Query{First: sequence, Last: sequence}) {
		return e, err
	}
	return events.Event{}, events.ErrNotFound
}

// Follow is delivery.Source's.
func (s historySource) Follow(ctx context.Context, from uint64) iter.Seq2[events.Event, error] {
	q := s.query
	q.First = from
	return s.client.Follow(ctx, q)
}
