package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go"
	v1 "k8s.io/api/core/v1"
	"k8s.io/component-base/version"

	"github.com/reprise-run/reprise/agents/bus"
	"github.com/reprise-run/reprise/agents/bus/calls"
	"github.com/reprise-run/reprise/agents/bus/feed"
	"github.com/reprise-run/reprise/agents/crew"
	"github.com/reprise-run/reprise/agents/node"
	"github.com/reprise-run/reprise/agents/sim/hollow"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// fleet is the hollow nodes of a process.
type fleet struct {
	o        *agentOptions
	log      *slog.Logger
	profile  hollow.Profile
	timeline *hollow.Timeline
	crew     *crew.Crew
	// joining holds a place for each node that joins, and joined those that have.
	joining chan struct{}
	joined  chan struct{}
}

// run runs one node until ctx ends.
func (f *fleet) run(ctx context.Context, nc *nats.Conn, number int) error {
	name := f.o.name(number)
	at, err := bus.NewNode(subjectPrefix, name)
	if err != nil {
		return err
	}
	proposer, err := jetstream.NewProposer(nc, subjectPrefix, events.Actor{Kind: "node", Name: name})
	if err != nil {
		return err
	}
	select {
	case f.joining <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	projection, err := feed.Follow(ctx, nc, at, feed.Options{Log: f.log})
	if err != nil {
		return err
	}
	address, pods := hollow.Addresses(number)
	runtime := hollow.New(hollow.Options{Node: name, Seed: f.o.seed, Profile: f.profile, Pods: pods, Timeline: f.timeline})
	machine := node.Machine{
		CPUs: f.o.cpus, Memory: int64(f.o.memory) << 30, Disk: 1 << 40,
		Info: v1.NodeSystemInfo{OperatingSystem: "linux", Architecture: "amd64", MachineID: name, SystemUUID: name, BootID: name, OSImage: "hollow"},
	}
	agent, err := node.New(node.Options{
		Name: name, Version: programVersion, KubernetesVersion: version.Get().GitVersion,
		Projection: projection, Proposer: proposer, Tokens: calls.NewClient(nc, at).Token,
		Alive:      alive(projection, nc, at),
		Heard:      proposer.Heard,
		Containers: runtime, Images: runtime, Disk: hollow.NewDisk(), Prober: hollow.Probes{},
		Machine:   func() node.Machine { return machine },
		Addresses: []string{address.String()}, PodCIDRs: []string{pods.String()}, Domain: clusterDomain, Crew: f.crew,
		Labels: map[string]string{"reprise.run/hollow": "true"}, MaxPods: f.o.pods, Log: f.log,
	})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- agent.Run(ctx) }()
	ready, err := awaitNode(ctx, projection, name)
	<-f.joining
	if ready {
		f.joined <- struct{}{}
	}
	// At the end the feed may go before the agent, which then says so.
	if failed := <-ended; failed != nil && ctx.Err() == nil {
		return fmt.Errorf("node %s: %w", name, failed)
	}
	return err
}

// awaitNode returns when a node is ready.
func awaitNode(ctx context.Context, p live.Projection, name string) (bool, error) {
	ref := events.Ref{Resource: "nodes", Name: name}
	for {
		view := p.View()
		if e := view.Get(ref); e != nil && ready(projections.As[v1.Node](e)) {
			return true, nil
		}
		changes, err := p.Changes(ctx, view.Sequence())
		if err == nil {
			_, err = changes.Next(ctx)
		}
		if err != nil && !errors.Is(err, live.ErrTooOld) {
			return false, err
		}
	}
}
