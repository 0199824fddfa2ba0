//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/schemas/schematest"
)

// checkSchemas holds every event that the cluster has appended in its life against
// the schemas that integrators are given. The server must have ended. A log that
// the test has damaged is checked as far as it can be read.
func (c *cluster) checkSchemas() {
	dir := filepath.Join(c.dir, "log")
	if _, err := os.Stat(filepath.Join(dir, "jetstream")); err != nil {
		return // It has never run.
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	began := time.Now()
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir})
	if err != nil {
		c.t.Logf("the log's schemas are not checked, for it cannot be opened: %v", err)
		return
	}
	defer server.Shutdown()
	nc, err := server.Connect()
	if err != nil {
		c.t.Errorf("the log's schemas are not checked: %v", err)
		return
	}
	defer nc.Close()
	history, err := jetstream.History(ctx, nc, jetstream.Config{})
	if err != nil {
		c.t.Logf("the log's schemas are not checked, for it cannot be opened: %v", err)
		return
	}
	if n := c.checkAll(ctx, history); n > 0 {
		c.t.Logf("%d events of the history are as their schemas say (%s)", n, time.Since(began).Round(time.Millisecond))
	}
	if volatile, err := jetstream.Volatile(ctx, nc, jetstream.Config{}); err == nil {
		c.checkAll(ctx, volatile)
	}
}

// checkAll checks the events of one log and counts them.
func (c *cluster) checkAll(ctx context.Context, log events.Log) (n int) {
	first, err := log.First(ctx)
	if err != nil {
		c.t.Logf("a log cannot be read: %v", err)
		return 0
	}
	last, err := log.Last(ctx)
	if err != nil || last < first {
		return 0
	}
	reader, err := log.Follow(ctx, first)
	if err != nil {
		c.t.Logf("a log cannot be read: %v", err)
		return 0
	}
	defer reader.Close()
	for {
		batch, err := reader.Next(ctx)
		if err != nil {
			c.t.Logf("after %d events a log cannot be read any further: %v", n, err)
			return n
		}
		for i := range batch {
			if batch[i].Type == c.invented {
				continue
			}
			schematest.Check(c.t, &batch[i])
			n++
		}
		if batch[len(batch)-1].Sequence >= last {
			return n
		}
	}
}
