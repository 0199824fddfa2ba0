package historian

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections/history"
)

// Client asks a server about the history.
type Client struct {
	nc     *nats.Conn
	prefix string
}

// NewClient returns a client of the cluster whose log has the prefix.
func NewClient(nc *nats.Conn, prefix string) *Client { return &Client{nc: nc, prefix: prefix} }

// Events yields the events that the query asks for. An error ends it.
func (c *Client) Events(ctx context.Context, q history.Query) iter.Seq2[events.Event, error] {
	return all(ctx, c, methodEvents, q, parseEvents)
}

// Follow yields the events that the query asks for from its First on, those that
// are there and those to come, up to its Last if it has one, until ctx ends.
func (c *Client) Follow(ctx context.Context, q history.Query) iter.Seq2[events.Event, error] {
	return follow(ctx, c, methodEvents, q, parseEvents)
}

// Tell is Events with what they changed.
func (c *Client) Tell(ctx context.Context, q history.Query) iter.Seq2[history.Told, error] {
	return all(ctx, c, methodTell, q, parseTold)
}

// FollowTold is Follow with what they changed.
func (c *Client) FollowTold(ctx context.Context, q history.Query) iter.Seq2[history.Told, error] {
	return follow(ctx, c, methodTell, q, parseTold)
}

// Find says whose events a name asks for: see history.Find.
func (c *Client) Find(ctx context.Context, n history.Name) (history.Query, error) {
	return one[history.Query](ctx, c, methodFind, n)
}

// Propose says how a name may go on: see history.Propose.
func (c *Client) Propose(ctx context.Context, n history.Name) ([]string, error) {
	return one[[]string](ctx, c, methodPropose, n)
}

// Actors says who did something of late, and for whom: see history.Actors.
func (c *Client) Actors(ctx context.Context) (actors, users []string, err error) {
	of, err := one[acting](ctx, c, methodActors, nil)
	return of.Actors, of.Users, err
}

// Subject returns the event that a question about an object is about: see
// history.SubjectOf.
func (c *Client) Subject(ctx context.Context, q history.Query) (history.Subject, error) {
	return one[history.Subject](ctx, c, methodSubject, q)
}

// Resolve finds a point in the server's log.
func (c *Client) Resolve(ctx context.Context, p history.Point) (uint64, error) {
	return one[uint64](ctx, c, methodPoint, p)
}

// Verify has the projection rebuilt and compared with the one in use.
func (c *Client) Verify(ctx context.Context) (Verification, error) {
	return one[Verification](ctx, c, methodVerify, nil)
}

// Why yields an event, what led to it, and so on back to where it began.
func (c *Client) Why(ctx context.Context, sequence uint64) iter.Seq2[history.Told, error] {
	return pages(ctx, c, methodWhy, sequence, parseTold, func(next uint64, _ int) any { return next })
}

// Following yields what followed from some events, of each in turn.
func (c *Client) Following(ctx context.Context, causes []uint64) iter.Seq2[history.Told, error] {
	return func(yield func(history.Told, error) bool) {
		for call := (followingCall{Causes: causes}); len(call.Causes) > 0; {
			found, next, err := askPage(ctx, c, methodFollowing, call, parseTold)
			if err != nil {
				yield(history.Told{}, err)
				return
			}
			for _, t := range found {
				if !yield(t, nil) {
					return
				}
			}
			if next == 0 || len(found) == 0 {
				return
			}
			last := found[len(found)-1].Event
			call = followingCall{Causes: call.Causes[slices.Index(call.Causes, last.Cause):], After: last.Sequence}
		}
	}
}

// Between yields what differs between two moments: see history.Between.
func (c *Client) Between(ctx context.Context, w history.Range) iter.Seq2[history.Difference, error] {
	return pages(ctx, c, methodBetween, w, parseLines[history.Difference], func(next uint64, _ int) any {
		w.Resume = next
		return w
	})
}

// all yields what a query asks for.
func all[T any](ctx context.Context, c *Client, method string, q history.Query, parse func([]byte) ([]T, error)) iter.Seq2[T, error] {
	return pages(ctx, c, method, eventsCall{Query: q}, parse, func(next uint64, found int) any {
		if q.Limit > 0 {
			q.Limit -= found
		}
		if q.Backward {
			q.Last = next
		} else {
			q.First = next
		}
		return eventsCall{Query: q}
	})
}

// pages yields the answers to a question, and asks on where a page ends: with what
// again makes of where the next one begins and of how many the last one held.
func pages[T any](ctx context.Context, c *Client, method string, call any, parse func([]byte) ([]T, error), again func(next uint64, found int) any) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			found, next, err := askPage(ctx, c, method, call, parse)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, v := range found {
				if !yield(v, nil) {
					return
				}
			}
			if next == 0 {
				return
			}
			call = again(next, len(found))
		}
	}
}

// follow yields what a query asks for and what it comes to ask for.
func follow[T any](ctx context.Context, c *Client, method string, q history.Query, parse func([]byte) ([]T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for q.First = max(q.First, 1); q.Last == 0 || q.First <= q.Last; {
			found, next, err := askPage(ctx, c, method, eventsCall{Query: q, Wait: true}, parse)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, v := range found {
				if !yield(v, nil) {
					return
				}
			}
			q.First = next
		}
	}
}

func parseEvents(answer []byte) ([]events.Event, error) { return events.ParseText(string(answer)) }

func parseTold(answer []byte) ([]history.Told, error) {
	lines, err := parseLines[told](answer)
	if err != nil {
		return nil, err
	}
	found := make([]history.Told, 0, len(lines))
	for _, line := range lines {
		of, err := events.ParseText(line.Event)
		if err != nil {
			return nil, err
		}
		for _, e := range of {
			found = append(found, history.Told{Event: e, Changes: line.Changes})
		}
	}
	return found, nil
}

func parseLines[T any](answer []byte) (found []T, err error) {
	for d := json.NewDecoder(bytes.NewReader(answer)); d.More(); {
		var v T
		if err := d.Decode(&v); err != nil {
			return nil, err
		}
		found = append(found, v)
	}
	return found, nil
}

// one asks what has one answer.
func one[T any](ctx context.Context, c *Client, method string, call any) (v T, err error) {
	m, err := c.ask(ctx, method, call)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(m.Data, &v); err != nil {
		return v, unreadable(err)
	}
	return v, nil
}

// askPage asks for a page, and returns with it where the next one begins, 0 if there
// is none.
func askPage[T any](ctx context.Context, c *Client, method string, call any, parse func([]byte) ([]T, error)) ([]T, uint64, error) {
	m, err := c.ask(ctx, method, call)
	if err != nil {
		return nil, 0, err
	}
	var next uint64
	if h := m.Header.Get(headerNext); h != "" {
		if next, err = strconv.ParseUint(h, 10, 64); err != nil {
			return nil, 0, unreadable(err)
		}
	}
	found, err := parse(m.Data)
	if err != nil {
		return nil, 0, unreadable(err)
	}
	return found, next, nil
}

func unreadable(err error) error { return fmt.Errorf("the server's answer cannot be read: %w", err) }

func (c *Client) ask(ctx context.Context, method string, call any) (*nats.Msg, error) {
	body, err := json.Marshal(call)
	if err != nil {
		return nil, err
	}
	return c.request(ctx, subject(c.prefix, method), body)
}

// request asks, and puts an answer together that comes in several messages.
func (c *Client) request(ctx context.Context, subject string, body []byte) (*nats.Msg, error) {
	inbox, err := c.nc.SubscribeSync(c.nc.NewInbox())
	if err != nil {
		return nil, fmt.Errorf("asking the server: %w", err)
	}
	defer func() { _ = inbox.Unsubscribe() }() // A connection that is closed has none.
	if err := c.nc.PublishRequest(subject, inbox.Subject, body); err != nil {
		return nil, fmt.Errorf("asking the server: %w", err)
	}
	var parts []byte
	m, err := inbox.NextMsgWithContext(ctx)
	for ; err == nil && m.Header.Get(headerMore) != ""; m, err = inbox.NextMsgWithContext(ctx) {
		parts = append(parts, m.Data...)
	}
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, errors.New("no server answers questions about the history: start one with `reprise up`")
	}
	if err != nil {
		return nil, fmt.Errorf("asking the server: %w", err)
	}
	if len(parts) > 0 {
		m.Data = append(parts, m.Data...)
	}
	if refusal := m.Header.Get(headerError); refusal != "" {
		if text, err := strconv.Unquote(refusal); err == nil {
			refusal = text
		}
		return nil, Refusal(refusal)
	}
	return m, nil
}

// Refusal is why a server does not answer a question; any other error says that it was
// not asked.
type Refusal string

func (r Refusal) Error() string { return string(r) }
