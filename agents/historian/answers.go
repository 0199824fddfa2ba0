package historian

import (
	"bytes"
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

// question reads what is asked.
func question[T any](m *nats.Msg) (call T, err error) {
	if err := json.Unmarshal(m.Data, &call); err != nil {
		return call, fmt.Errorf("not a question that this server understands: %w", err)
	}
	return call, nil
}

// whole is an answer that is never long.
func whole[T any](v T, err error) (*nats.Msg, error) {
	if err != nil {
		return nil, err
	}
	reply := nats.NewMsg("")
	reply.Data, err = json.Marshal(v)
	return reply, err
}

// paged puts what is found into an answer until that is long enough, and then says
// where the next one begins: it is asked with that.
func paged[T any](found iter.Seq2[T, error], print func(*bytes.Buffer, T) error, place func(T) string) (*nats.Msg, error) {
	reply := nats.NewMsg("")
	var b bytes.Buffer
	for v, err := range found {
		if err != nil {
			return nil, err
		}
		if b.Len() >= page {
			reply.Header.Set(headerNext, place(v))
			break
		}
		if err := print(&b, v); err != nil {
			return nil, err
		}
	}
	reply.Data = b.Bytes()
	return reply, nil
}

// told is history.Told on its way: the event in its text form, which alone is
// exact.
type told struct {
	Event   string
	Changes []history.Line `json:",omitempty"`
}

func printEvent(b *bytes.Buffer, e events.Event) error {
	b.WriteString(e.Text())
	return nil
}

func printTold(b *bytes.Buffer, t history.Told) error {
	return printLine(b, told{Event: t.Event.Text(), Changes: t.Changes})
}

func printLine[T any](b *bytes.Buffer, v T) error { return json.NewEncoder(b).Encode(v) }

func sequenceOf(e events.Event) string { return strconv.FormatUint(e.Sequence, 10) }

// events answers with a page of events.
func (s *server) events(m *nats.Msg) (*nats.Msg, error) {
	return answer(s, m, func(found iter.Seq2[events.Event, error]) (*nats.Msg, error) {
		return paged(found, printEvent, sequenceOf)
	})
}

// tell answers with a page of events and what they changed.
func (s *server) tell(m *nats.Msg) (*nats.Msg, error) {
	return answer(s, m, func(found iter.Seq2[events.Event, error]) (*nats.Msg, error) {
		return paged(s.describe(found), printTold, func(t history.Told) string { return sequenceOf(t.Event) })
	})
}

// answer finds the events that are asked for, once there are some.
func answer(s *server, m *nats.Msg, print func(iter.Seq2[events.Event, error]) (*nats.Msg, error)) (*nats.Msg, error) {
	call, err := question[eventsCall](m)
	if err != nil {
		return nil, err
	}
	if call.Wait {
		ctx, cancel := context.WithTimeout(s.ctx, poll)
		defer cancel()
		if err := s.Wait(ctx, call.Query.First); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
	}
	// What is asked for is what is there now; the next page goes on after it.
	folded := s.Reader.Folded()
	if call.Query.Last == 0 || call.Query.Last > folded {
		call.Query.Last = folded
	}
	reply, err := print(s.Reader.Events(s.ctx, call.Query))
	if err == nil && call.Wait && reply.Header.Get(headerNext) == "" {
		reply.Header.Set(headerNext, strconv.FormatUint(max(folded+1, call.Query.First), 10))
	}
	return reply, err
}

// describe says of each event what it changed.
func (s *server) describe(found iter.Seq2[events.Event, error]) iter.Seq2[history.Told, error] {
	return func(yield func(history.Told, error) bool) {
		for e, err := range found {
			if err != nil {
				yield(history.Told{}, err)
				return
			}
			if t, err := history.Tell(s.Reader, e); !yield(t, err) || err != nil {
				return
			}
		}
	}
}

// find answers with the query that a name stands for.
func (s *server) find(m *nats.Msg) (*nats.Msg, error) {
	n, err := question[history.Name](m)
	if err != nil {
		return nil, err
	}
	q, err := history.Find(s.ctx, s.Reader, n)
	return whole(q, err)
}

// propose answers with how a name may go on.
func (s *server) propose(m *nats.Msg) (*nats.Msg, error) {
	n, err := question[history.Name](m)
	if err != nil {
		return nil, err
	}
	words, err := history.Propose(s.ctx, s.Reader, n)
	return whole(words, err)
}

// acting is who did something of late.
type acting struct{ Actors, Users []string }

func (s *server) actors(*nats.Msg) (*nats.Msg, error) {
	actors, users, err := history.Actors(s.ctx, s.Reader)
	return whole(acting{actors, users}, err)
}

// subject answers with the event that a question about an object is about.
func (s *server) subject(m *nats.Msg) (*nats.Msg, error) {
	q, err := question[history.Query](m)
	if err != nil {
		return nil, err
	}
	subject, err := history.SubjectOf(s.ctx, s.Reader, q)
	return whole(subject, err)
}

// why answers with an event and what led to it.
func (s *server) why(m *nats.Msg) (*nats.Msg, error) {
	sequence, err := question[uint64](m)
	if err != nil {
		return nil, err
	}
	found := s.describe(history.Chain(s.Reader, sequence))
	return paged(found, printTold, func(t history.Told) string { return sequenceOf(t.Event) })
}

// followingCall asks what followed from some events; of the first of them, after a
// sequence.
type followingCall struct {
	Causes []uint64
	After  uint64
}

// following answers with what followed from some events, of each in turn.
func (s *server) following(m *nats.Msg) (*nats.Msg, error) {
	call, err := question[followingCall](m)
	if err != nil {
		return nil, err
	}
	found := s.describe(func(yield func(events.Event, error) bool) {
		for i, cause := range call.Causes {
			for e, err := range s.Reader.Following(s.ctx, cause) {
				if err == nil && i == 0 && e.Sequence <= call.After {
					continue
				}
				if !yield(e, err) || err != nil {
					return
				}
			}
		}
	})
	return paged(found, printTold, func(t history.Told) string { return sequenceOf(t.Event) })
}

// between answers with what differs between two moments.
func (s *server) between(m *nats.Msg) (*nats.Msg, error) {
	w, err := question[history.Range](m)
	if err != nil {
		return nil, err
	}
	return paged(history.Between(s.ctx, s.Reader, w), printLine[history.Difference], func(d history.Difference) string {
		return strconv.FormatUint(d.Touched, 10)
	})
}
