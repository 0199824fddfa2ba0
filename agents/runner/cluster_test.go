package runner_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// cluster is a log, its committer, its gate and a projection that can be made to
// lag behind.
type cluster struct {
	mu       sync.Mutex
	head     *projections.State // what the committer knows
	log      []events.Event
	state    *projections.State // what the projection has folded
	changes  []projections.Change
	forgot   uint64 // changes up to here are no longer kept
	folded   chan struct{}
	lagging  bool
	refuse   error                       // what the gate says
	propose  func(events.Proposal) error // called before a proposal is judged
	commands int
	inGate   func()
}

func newCluster() *cluster {
	return &cluster{head: projections.NewState(), state: projections.NewState(), folded: make(chan struct{})}
}

func ref(name string) events.Ref {
	return events.Ref{Resource: "configmaps", Namespace: "default", Name: name}
}

// put creates or replaces a ConfigMap with the data.
func (c *cluster) put(name string, data map[string]string) uint64 {
	body, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "data": data,
		"metadata": map[string]any{"namespace": "default", "name": name, "uid": "uid-" + name},
	})
	if err != nil {
		panic(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.write(ref(name), body)
}

func (c *cluster) write(r events.Ref, body []byte) uint64 {
	body, err := events.Canonical(body)
	if err != nil {
		panic(err)
	}
	var before []byte
	if e := c.head.View().Get(r); e != nil {
		before = e.Raw
	}
	change, some, err := events.Command(r, "uid-"+r.Name, before, body)
	if err != nil {
		panic(err)
	}
	if !some {
		return c.head.Sequence()
	}
	return c.append(events.Event{Type: change.Type, Object: r, UID: change.UID, Actor: events.Actor{Kind: "api"}, Data: change.Data})
}

func (c *cluster) append(ev events.Event) uint64 {
	ev.Sequence = c.head.Sequence() + 1
	if _, err := c.head.Fold([]events.Event{ev}); err != nil {
		panic(err)
	}
	c.log = append(c.log, ev)
	if !c.lagging {
		c.fold()
	}
	return ev.Sequence
}

func (c *cluster) fold() {
	for _, ev := range c.log[c.state.Sequence():] {
		changes, err := c.state.Fold([]events.Event{ev})
		if err != nil {
			panic(err)
		}
		c.changes = append(c.changes, changes...)
	}
	close(c.folded)
	c.folded = make(chan struct{})
}

// lag stops the projection, or lets it catch up.
func (c *cluster) lag(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lagging = on; !on {
		c.fold()
	}
}

func (c *cluster) View() projections.Reader {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.View()
}

func (c *cluster) Wait(context.Context, uint64) error { return nil }

func (c *cluster) Changes(_ context.Context, after uint64) (live.Changes, error) {
	return &follower{c, after}, nil
}

type follower struct {
	*cluster
	after uint64
}

func (f *follower) Next(ctx context.Context) ([]projections.Change, error) {
	for {
		f.mu.Lock()
		if f.after < f.forgot {
			f.mu.Unlock()
			return nil, live.ErrTooOld
		}
		batch, folded := f.changes[f.after:], f.folded
		f.mu.Unlock()
		if len(batch) > 0 {
			f.after += uint64(len(batch))
			return batch, nil
		}
		select {
		case <-folded:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *cluster) Propose(_ context.Context, p events.Proposal) (events.Receipt, error) {
	if c.propose != nil {
		if err := c.propose(p); err != nil {
			return events.Receipt{}, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range p.Expect {
		var actual uint64
		if e := c.head.View().Get(x.Object); e != nil {
			actual = e.Sequence
		}
		if actual != x.Sequence {
			return events.Receipt{}, &events.ConflictError{Object: x.Object, Expected: x.Sequence, Actual: actual}
		}
	}
	r := events.Receipt{First: c.head.Sequence() + 1}
	for _, ch := range p.Changes {
		r.Last = c.append(events.Event{Type: ch.Type, Object: ch.Object, UID: ch.UID, Data: ch.Data, Cause: p.Because, Basis: p.Basis, Now: p.Now, Actor: p.Actor})
	}
	return r, nil
}

func (c *cluster) Do(_ context.Context, _ events.Actor, cmd runner.Command) (uint64, error) {
	if c.inGate != nil {
		c.inGate()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.commands++
	if c.refuse != nil {
		return 0, c.refuse
	}
	if c.head.View().Get(cmd.Object) != nil {
		return 0, nil
	}
	return c.write(cmd.Object, cmd.Body), nil
}

// names lists the ConfigMaps of the authoritative state.
func (c *cluster) names() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for e := range c.head.View().List("", "configmaps", "") {
		names = append(names, e.Ref.Name)
	}
	return strings.Join(names, " ")
}

func (c *cluster) options(t *testing.T) runner.Options {
	log := slog.New(slog.NewTextHandler(writer{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return runner.Options{Projection: c, Proposer: c, Gate: c, Version: "test", Logger: log}
}

type writer struct{ t *testing.T }

func (w writer) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// start runs a runner until the returned function is called.
func start(t *testing.T, d runner.Decider, o runner.Options) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- runner.New(d, o).Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}
