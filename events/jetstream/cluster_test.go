package jetstream_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/logtest"
)

// external starts three NATS servers that are none of ours, and returns the
// address of one.
func external(t *testing.T) string {
	// Each server must know where the others are before it starts.
	var routes []*url.URL
	for len(routes) < 3 {
		// Ports from 32,768 on are taken now and then by connections of others.
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 10_000+rand.IntN(20_000)))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		routes = append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
	}
	var servers []*server.Server
	for i, route := range routes {
		port, err := strconv.Atoi(route.Port())
		if err != nil {
			t.Fatal(err)
		}
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprintf("s%d", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: t.TempDir(), SyncAlways: true,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: port}, Routes: routes,
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		servers = append(servers, s)
	}
	for _, s := range servers {
		if !s.ReadyForConnections(time.Minute) {
			t.Fatal("a server of the cluster does not start")
		}
	}
	eventually(t, "the cluster elects a leader", func() bool {
		for _, s := range servers {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == 3 {
				return true
			}
		}
		return false
	})
	return servers[0].ClientURL()
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	give := time.After(2 * time.Minute)
	for !holds() {
		select {
		case <-tick.C:
		case <-give:
			t.Fatalf("%s: it does not in two minutes", what)
		}
	}
}

func TestExternalClusterContract(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers take long to start; run without -short")
	}
	address := external(t)
	nc, err := jetstream.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	n := 0
	logtest.Run(t, func(t *testing.T) events.Log {
		n++
		log, err := jetstream.History(t.Context(), nc, jetstream.Config{Prefix: fmt.Sprintf("p%d", n), Replicas: 3})
		if err != nil {
			t.Fatal(err)
		}
		return log
	}, nil)
}
