package historian

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
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
	return func(yield func(events.Event, error) bool) {
		for {
			found, next, err := c.page(ctx, eventsCall{Query: q})
			if err != nil {
				yield(events.Event{}, err)
				return
			}
			for _, e := range found {
				if !yield(e, nil) {
					return
				}
			}
			if next == 0 {
				return
			}
			if q.Limit > 0 {
				q.Limit -= len(found)
			}
			if q.Backward {
				q.Last = next
			} else {
				q.First = next
			}
		}
	}
}

// Follow yields the events that the query asks for from its First on, those that
// are there and those to come, up to its Last if it has one, until ctx ends.
func (c *Client) Follow(ctx context.Context, q history.Query) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		for q.First = max(q.First, 1); q.Last == 0 || q.First <= q.Last; {
			found, next, err := c.page(ctx, eventsCall{Query: q, Wait: true})
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				yield(events.Event{}, err)
				return
			}
			for _, e := range found {
				if !yield(e, nil) {
					return
				}
			}
			q.First = next
		}
	}
}

// Why returns the chain of causes of an event, itself first.
func (c *Client) Why(ctx context.Context, sequence uint64) ([]events.Event, error) {
	return c.about(ctx, methodWhy, eventCall{Sequence: sequence})
}

// Down returns what followed from an event, limit events at most, and says
// whether there were more.
func (c *Client) Down(ctx context.Context, sequence uint64, limit int) (*history.Tree, bool, error) {
	m, err := c.ask(ctx, methodDown, eventCall{Sequence: sequence, Limit: limit})
	if err != nil {
		return nil, false, err
	}
	all, err := events.ParseText(string(m.Data))
	if err != nil || len(all) == 0 {
		return nil, false, fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	nodes := make(map[uint64]*history.Tree, len(all))
	for i := range all {
		nodes[all[i].Sequence] = &history.Tree{Event: all[i]}
		if cause := nodes[all[i].Cause]; i > 0 && cause != nil {
			cause.Then = append(cause.Then, nodes[all[i].Sequence])
		}
	}
	return nodes[sequence], m.Header.Get(headerMore) != "", nil
}

// Resolve finds a point in the server's log.
func (c *Client) Resolve(ctx context.Context, p history.Point) (uint64, error) {
	m, err := c.ask(ctx, methodPoint, p)
	if err != nil {
		return 0, err
	}
	sequence, err := strconv.ParseUint(string(m.Data), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	return sequence, nil
}

// Verify has the projection rebuilt and compared with the one in use.
func (c *Client) Verify(ctx context.Context) (Verification, error) {
	var v Verification
	m, err := c.ask(ctx, methodVerify, nil)
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal(m.Data, &v)
}

func (c *Client) about(ctx context.Context, method string, call eventCall) ([]events.Event, error) {
	m, err := c.ask(ctx, method, call)
	if err != nil {
		return nil, err
	}
	return events.ParseText(string(m.Data))
}

// page asks for events, and returns with them where the next page begins, 0 if
// there is none.
func (c *Client) page(ctx context.Context, call eventsCall) ([]events.Event, uint64, error) {
	m, err := c.ask(ctx, methodEvents, call)
	if err != nil {
		return nil, 0, err
	}
	var next uint64
	if h := m.Header.Get(headerNext); h != "" {
		if next, err = strconv.ParseUint(h, 10, 64); err != nil {
			return nil, 0, fmt.Errorf("the server's answer cannot be read: %w", err)
		}
	}
	found, err := events.ParseText(string(m.Data))
	return found, next, err
}

func (c *Client) ask(ctx context.Context, method string, call any) (*nats.Msg, error) {
	body, err := json.Marshal(call)
	if err != nil {
		return nil, err
	}
	m, err := c.nc.RequestWithContext(ctx, subject(c.prefix, method), body)
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, errors.New("no server answers questions about the history: start one with `reprise up`")
	}
	if err != nil {
		return nil, fmt.Errorf("asking the server: %w", err)
	}
	if refusal := m.Header.Get(headerError); refusal != "" {
		if text, err := strconv.Unquote(refusal); err == nil {
			refusal = text
		}
		return nil, errors.New(refusal)
	}
	return m, nil
}
