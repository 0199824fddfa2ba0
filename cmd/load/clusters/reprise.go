package clusters

import (
	"context"
	"errors"
	"path/filepath"
)

// Reprise starts `reprise server` and hollow nodes.
func Reprise(ctx context.Context, o Options) (*Cluster, error) {
	c, err := begin("reprise", o)
	if err != nil {
		return nil, err
	}
	if err := c.reprise(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *Cluster) reprise(ctx context.Context) error {
	free, err := addresses(2)
	if err != nil {
		return err
	}
	data, run := filepath.Join(c.o.Dir, "data"), filepath.Join(c.o.Dir, "run")
	c.Data, c.Kubeconfig = []string{data}, filepath.Join(data, "admin.kubeconfig")
	args := append([]string{"server", "--data-dir", data, "--run-dir", run, "--listen", free[0], "--nats-listen", free[1]}, c.o.Arguments...)
	if _, err := c.start(c.Control, "server", "reprise", args...); err != nil {
		return err
	}
	if err := c.use(ctx); err != nil {
		return err
	}
	hollow := func(name, nodes string, n int) (*process, error) {
		return c.start(c.Nodes, name, "reprise", "agent", "--data-dir", filepath.Join(c.o.Dir, name), "--run-dir", run,
			"--nats", free[1], "--hollow", itoa(n), "--name", nodes)
	}
	if _, err := hollow("agent", "hollow", c.o.Nodes-c.o.Lost); err != nil || c.o.Lost == 0 {
		return err
	}
	lost, err := hollow("lost-agent", "lost", c.o.Lost)
	c.Fail = func() error { delete(c.Nodes, "lost-agent"); return lost.kill() }
	return err
}
