package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/agents/bus"
)

// A node says that it is there, and its server is told so and says whether to renew the
// Lease. The same call asks how far the feed is, so that a lost message is noticed by it.
func TestAliveAsksHowFarTheFeedIs(t *testing.T) {
	c := newCluster(t)
	var heard atomic.Int32
	c.alive = func(node string) bool {
		if node != "n1" {
			t.Errorf("%q is there", node)
		}
		return heard.Add(1) == 1
	}
	stop := c.serve()
	nc, err := c.nats.Connect(c.node.Inbox())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	// Every is an hour: no question but that of Alive notices anything.
	m, err := Follow(t.Context(), nc, c.node, Options{Every: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		if renew, err := m.Alive(t.Context()); err != nil || renew != want {
			t.Errorf("renew: %v, %v, want %v", renew, err, want)
		}
	}
	// Its server goes, and another comes, which feeds it and does not hear.
	stop()
	if _, err := m.Alive(t.Context()); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("its server is gone: %v", err)
	}
	c.pod("mine", "n1", "x")
	at := c.append()
	if err := c.live.Wait(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	c.alive = nil
	defer c.serve()()
	sees(t, m, at, "pods/shop/mine")
	// What it sees is there a moment before it knows whom to ask.
	_, err = m.Alive(t.Context())
	for errors.Is(err, errUnfed) {
		runtime.Gosched()
		_, err = m.Alive(t.Context())
	}
	if !errors.Is(err, errUnheard) {
		t.Errorf("a server that does not hear: %v", err)
	}
}

// What a node of the version before asks, and is answered, has the same bytes.
func TestCallsOfTheVersionBefore(t *testing.T) {
	for want, v := range map[string]any{
		`{"epoch":"e","sequence":3}`:    call{Epoch: "e", Sequence: 3},
		`{"number":4,"sequence":5}`:     answer{Number: 4, Sequence: 5},
		`{"epoch":"e","alive":true}`:    call{Epoch: "e", Alive: true},
		`{"heard":true,"renew":true}`:   answer{Heard: true, Renew: true},
		`{"unknown":true,"heard":true}`: answer{Unknown: true, Heard: true},
	} {
		if got := string(encode(v)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	var a answer
	if err := json.Unmarshal([]byte(`{"number":4}`), &a); err != nil || a.Heard {
		t.Errorf("a server of the version before hears: %+v, %v", a, err)
	}
}

// A node whose server feeds it no longer begins anew when it next says that it is there.
func TestAliveNoticesAnotherFeed(t *testing.T) {
	c := newCluster(t)
	c.alive = func(string) bool { return false }
	defer c.serve()()
	nc, err := c.nats.Connect(c.node.Inbox())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	m, err := Follow(t.Context(), nc, c.node, Options{Every: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	other, err := c.nats.Connect(c.node.Inbox())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	// Another program says that it is the same node, and has its feed.
	f := newFollower(other, c.node, Options{Every: time.Hour}, pending)
	if _, err := other.ChanSubscribe(c.node.Feed(), f.in); err != nil {
		t.Fatal(err)
	}
	if err := f.snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The feed of m is unknown now.
	c.pod("mine", "n1", "x")
	at := c.append()
	if err := c.live.Wait(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Alive(t.Context()); err != nil {
		t.Fatal(err)
	}
	sees(t, m, at, "pods/shop/mine")
}

// A feed that is busy keeps no node from being heard, and none from being read.
func TestAliveWhileTheFeedIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		heard := 0
		// Nobody does what s is asked to.
		s := &server{do: make(chan func()), alive: func(string) bool { heard++; return false }}
		ctx, cancel := context.WithCancel(t.Context())
		var busy sync.WaitGroup
		for i := range 10 {
			n, err := bus.NewNode("reprise", fmt.Sprintf("n%d", i))
			if err != nil {
				t.Fatal(err)
			}
			s.takeProgress(ctx, &nats.Msg{Subject: n.Call("feed.x"), Data: encode(call{Epoch: "e", Alive: true})}, &busy)
		}
		if heard != 10 {
			t.Errorf("%d of 10 nodes are heard", heard)
		}
		cancel()
		busy.Wait()
	})
}

// What run has not come to is replaced by what is newer, and nobody waits for it.
func TestTheNewestAnswerCounts(t *testing.T) {
	f := &follower{told: make(chan progress, 1)}
	for i := range uint64(3) {
		f.tell(progress{answer: answer{Number: i}})
	}
	if p := <-f.told; p.answer.Number != 2 {
		t.Errorf("the answer %d is taken, not the newest", p.answer.Number)
	}
}

// A server that is slow is no reason to begin the feed anew; one that is gone is, and so is
// one that has heard the node but stops.
func TestWhatAnAnswerToAliveMeans(t *testing.T) {
	stops := errors.New("the server is shutting down")
	for _, c := range []struct {
		answer answer
		err    error
		renew  bool
		want   error
		told   bool
	}{
		{answer: answer{Heard: true}, told: true},
		{answer: answer{Heard: true, Renew: true}, renew: true, told: true},
		{answer: answer{Heard: true, Renew: true}, err: stops, renew: true, told: true},
		{answer: answer{Number: 3}, want: errUnheard, told: true},
		{err: nats.ErrNoResponders, want: nats.ErrNoResponders, told: true},
		{err: context.DeadlineExceeded, want: context.DeadlineExceeded},
	} {
		f := &follower{told: make(chan progress, 1)}
		renew, err := f.answered(progress{answer: c.answer, err: c.err})
		if renew != c.renew || !errors.Is(err, c.want) || len(f.told) == 1 != c.told {
			t.Errorf("%+v, %v: renew %v, %v, told %d", c.answer, c.err, renew, err, len(f.told))
		}
	}
}
