package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/component-base/version"

	"github.com/reprise-run/reprise/agents/node"
	"github.com/reprise-run/reprise/agents/node/images"
	"github.com/reprise-run/reprise/agents/node/runtime"
)

// worker is one node: containerd, which outlives this process, and the agent.
type worker struct {
	name    string
	env     *environment
	log     *slog.Logger
	runtime *runtime.Runtime
}

// nodeConfig says where one node of this machine has its runtime.
func (e *environment) nodeConfig(name string) runtime.Config {
	return runtime.Config{
		Node:       name,
		DataDir:    e.NodeDir(name),
		RunDir:     e.NodeRunDir(name),
		PodCIDR:    netip.MustParsePrefix(podCIDR),
		PauseImage: images.PauseImage,
	}
}

// startRuntime starts containerd, or finds it running, and gives it the images
// that come with Reprise.
func startRuntime(ctx context.Context, env *environment, name string, log *slog.Logger) (*worker, error) {
	config := env.nodeConfig(name)
	var err error
	if config.BinDir, err = env.BinDir(); err != nil {
		return nil, err
	}
	config.Log = log
	w := &worker{name: name, env: env, log: log}
	if w.runtime, err = runtime.Start(ctx, config); err != nil {
		return nil, fmt.Errorf("cannot start the container runtime: %w", err)
	}
	if err := w.importBundled(ctx, filepath.Join(config.BinDir, "..", "images")); err != nil {
		return nil, errors.Join(err, w.runtime.Withdraw())
	}
	return w, nil
}

// importBundled imports the archives of a directory whose images the node lacks.
func (w *worker) importBundled(ctx context.Context, dir string) error {
	socket := w.runtime.Config().Socket()
	have, err := images.List(ctx, socket)
	if err != nil {
		return err
	}
	for archive, name := range map[string]string{"pause.tar": images.PauseImage, "demo.tar": images.DemoImage + ":1"} {
		if slices.ContainsFunc(have, func(i images.Image) bool { return slices.Contains(i.Names, name) }) {
			continue
		}
		if _, err := images.Import(ctx, socket, filepath.Join(dir, archive)); err != nil {
			return fmt.Errorf("cannot import the image %s, which comes with reprise (`make images` builds it): %w", name, err)
		}
	}
	return nil
}

// run runs the node's agent until ctx ends.
func (w *worker) run(ctx context.Context, c *connection) error {
	config := w.runtime.Config()
	hides := config.Hides()
	if !hides {
		w.log.Warn("the shim is older than this program: variables that come from Secrets are written to containerd's database in the clear; build it anew (`make tools`) and restart the pods")
	}
	agent, err := node.New(node.Options{
		Name:              w.name,
		Version:           programVersion,
		KubernetesVersion: version.Get().GitVersion,
		Projection:        c.Projection,
		Proposer:          c.Proposer,
		Containers:        w.runtime.Containers(),
		Images:            w.runtime.Images(),
		Cgroups:           w.runtime.Cgroups(),
		Tokens:            c.Tokens,
		Alive:             c.Alive,
		Heard:             c.Proposer.Heard,
		Listener:          c.Listener,
		RootDir:           config.DataDir,
		Hides:             hides,
		Addresses:         []string{machineAddress()},
		PodCIDRs:          []string{config.PodCIDR.String()},
		Domain:            clusterDomain,
		Log:               w.log,
	})
	if err != nil {
		return err
	}
	return agent.Run(ctx)
}

// machineAddress is the address by which this machine is known: that of the
// first interface which is up, and loopback's on a machine without one.
func machineAddress() string {
	addresses, err := net.InterfaceAddrs()
	if err == nil {
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil && !netip.MustParsePrefix(podCIDR).Contains(netip.MustParseAddr(n.IP.String())) {
				return n.IP.String()
			}
		}
	}
	return "127.0.0.1"
}

// requireRoot says what the program needs root for before anything fails for lack of
// it.
func requireRoot(what string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	return fmt.Errorf("%s containers needs root: run this with sudo", what)
}
