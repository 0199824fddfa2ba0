package clusters

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
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
	free, err := addresses(4)
	if err != nil {
		return err
	}
	data, run := filepath.Join(c.o.Dir, "data"), filepath.Join(c.o.Dir, "run")
	c.Profiles, c.NodesProfiles = "http://"+free[2]+"/debug/pprof/", "http://"+free[3]+"/debug/pprof/"
	c.Data, c.Kubeconfig = []string{data}, filepath.Join(data, "admin.kubeconfig")
	args := append([]string{"server", "--data-dir", data, "--run-dir", run, "--listen", free[0], "--nats-listen", free[1], "--pprof", free[2]}, c.o.Arguments...)
	if _, err := c.start(c.Control, "server", "reprise", args...); err != nil {
		return err
	}
	if err := c.use(ctx); err != nil {
		return err
	}
	hollow := func(name, prefix string, n int, more ...string) (*process, error) {
		return c.start(c.Nodes, name, "reprise", append([]string{"agent", "--data-dir", data, "--run-dir", run, "--hollow", strconv.Itoa(n), "--node-pods", strconv.Itoa(PodsPerNode), "--name-prefix", prefix}, more...)...)
	}
	if _, err := hollow("agent", "kept-", c.o.Nodes-c.o.Lost, "--pprof", free[3]); err != nil || c.o.Lost == 0 {
		return err
	}
	lost, err := hollow("lost-agent", "lost-", c.o.Lost)
	c.Fail = func() error { delete(c.Nodes, "lost-agent"); return lost.kill() }
	return err
}
