// Command bench starts clusters, puts load on them and prints what it costs: of
// Reprise alone, or by turns of Reprise and of upstream's Kubernetes on etcd, on
// the same machine, with the same pods, and by the same observer.
//
//	bench -scenario deploy:2000/200,rolling -sides reprise,upstream -rounds 2
//
// Every scenario has a new cluster. The Makefile builds what it runs: see bench and
// bench-peer there.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/reprise-run/reprise/cmd/load"
	"github.com/reprise-run/reprise/cmd/load/clusters"
	"github.com/reprise-run/reprise/cmd/load/costs"
)

func main() {
	// What the load takes is taken from what it measures, and its heap is small: collected at
	// twice its size, as is usual, it is collected all the time.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// sides start a cluster each of what is below dist, and how that is built.
var sides = map[string]struct {
	start func(context.Context, clusters.Options) (*clusters.Cluster, error)
	bin   string
	files []string
	build string
}{
	"reprise": {clusters.Reprise, "bin", []string{"reprise"}, "run `make build`"},
	"upstream": {clusters.Upstream, "peer", []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "stages.yaml"},
		"`make bench-peer` builds it"},
}

func run(ctx context.Context, args []string) error {
	b, err := parse(args, os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err == nil {
		err = b.prepare()
	}
	if err != nil {
		return err
	}
	b.Leave = true
	b.Say = func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
	}
	results, err := b.all(ctx)
	if len(b.sides) == 2 {
		err = errors.Join(err, load.Compare(os.Stdout, results, b.sides[0], b.sides[1]))
	}
	if b.output != "" {
		text, encoding := json.MarshalIndent(results, "", "  ")
		err = errors.Join(err, encoding, os.WriteFile(b.output, append(text, '\n'), 0o600))
	}
	return errors.Join(err, load.Unreached(ours(results)))
}

// ours are the results of Reprise: the other side is taken as far as it goes.
func ours(results []*load.Result) (out []*load.Result) {
	for _, r := range results {
		if r.Side == "reprise" {
			out = append(out, r)
		}
	}
	return out
}

// all gives each side its turns, scenario by scenario.
func (b *bench) all(ctx context.Context) (results []*load.Result, err error) {
	for _, s := range b.scenarios {
		for round := range b.rounds {
			sides := slices.Clone(b.sides)
			if round%2 == 1 { // Nobody is always the one to come after the other.
				slices.Reverse(sides)
			}
			for _, side := range sides {
				result, err := b.turn(ctx, s, side)
				if err == nil {
					results = append(results, result)
					err = result.Print(os.Stdout)
				}
				if err != nil {
					return results, err
				}
			}
		}
	}
	return results, nil
}

// onDisk refuses a directory in which nothing lasts: there a sync costs nothing.
func onDisk(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("cannot keep clusters in %s: %w", dir, err)
	}
	if fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC {
		return fmt.Errorf("%s is in memory, where a sync costs nothing: name a directory on a disk with -dir", dir)
	}
	return nil
}

// turn starts a cluster, puts one scenario's load on it, and stops it.
func (b *bench) turn(ctx context.Context, s load.Scenario, name string) (result *load.Result, err error) {
	side := sides[name]
	bin, err := filepath.Abs(filepath.Join(b.dist, side.bin))
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// What the turn before has written is not written during this one.
	syscall.Sync()
	b.Say("%s starts for %s", name, s.Title())
	c, err := side.start(ctx, clusters.Options{Binaries: bin, Dir: filepath.Join(dir, name), Nodes: s.Nodes, Lost: s.Lost, Arguments: b.arguments, Environment: b.environment})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	if b.profile == "" || c.Profiles == "" || !profiles(s) {
		return load.Run(ctx, c.Target, s, b.Options)
	}
	o := b.Options
	o.Beside = func(ctx context.Context) error {
		both, ctx := errgroup.WithContext(ctx)
		both.Go(func() error { return b.take(ctx, c.Profiles, b.profile) })
		both.Go(func() error { return b.take(ctx, c.NodesProfiles, b.profile+".nodes") })
		return both.Wait()
	}
	if result, err = load.Run(ctx, c.Target, s, o); err == nil {
		err = b.explain(result)
	}
	return result, err
}

// take writes a profile.
func (b *bench) take(ctx context.Context, from, to string) error {
	address := fmt.Sprintf("%sprofile?seconds=%d", from, int(b.profiled.Seconds()))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, answer.Body)
	return errors.Join(err, out.Close())
}

// explain says which part of the server took how much of what it took for a pod.
func (b *bench) explain(r *load.Result) error {
	in, err := os.Open(b.profile)
	if err != nil {
		return err
	}
	defer in.Close()
	parts, err := costs.Of(in)
	if err != nil {
		return err
	}
	for _, p := range parts {
		fmt.Printf("%6.1f %%  %5.2f ms  %s\n", 100*p.Share, p.Share*r.Up.Control, p.Name)
	}
	return nil
}
