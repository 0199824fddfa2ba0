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
	"strings"
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

// bench is what to do.
type bench struct {
	scenarios, sides []string
	rounds           int
	dist, dir        string
	arguments        []string // of our server
	environment      []string // of upstream's programs
	profile          string
	profiled         time.Duration
	load.Options
}

// sides start a cluster each; their programs are below dist.
var sides = map[string]struct {
	start func(context.Context, clusters.Options) (*clusters.Cluster, error)
	bin   string
}{
	"reprise":  {clusters.Reprise, "bin"},
	"upstream": {clusters.Upstream, "peer"},
}

func run(ctx context.Context, args []string) error {
	var b bench
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	scenarios := f.String("scenario", "deploy", "deploy, rolling, failure or watchers, each also as KIND:PODS/NODES, separated by commas")
	of := f.String("sides", "reprise", "reprise, upstream, or both, separated by a comma")
	arguments := f.String("server", "", "arguments for `reprise server`, separated by spaces")
	environment := f.String("upstream-env", "", "variables for the environment of upstream's programs, as in GOGC=200, separated by spaces")
	output := f.String("o", "", "a file to write the results to, as JSON")
	f.StringVar(&b.profile, "profile", "", "a file to write a CPU profile of the server of Reprise to, in the scenarios deploy and watchers; that of the nodes goes beside it, as FILE.nodes")
	f.DurationVar(&b.profiled, "profiled", 20*time.Second, "for how long to profile: from the first request on, and the pods stay as long")
	f.IntVar(&b.rounds, "rounds", 1, "how often each side has its turn")
	f.StringVar(&b.dist, "dist", "dist", "where the programs are: below bin, and below peer")
	f.StringVar(&b.dir, "dir", os.TempDir(), "where clusters keep what they keep meanwhile; the kind of disk counts")
	f.DurationVar(&b.Within, "within", 15*time.Minute, "how long pods may take to become ready, and to go")
	f.DurationVar(&b.Idle, "idle", 0, "how long each cluster does nothing before the load")
	f.Float64Var(&b.Probes, "probes", 20, "calls for single objects a second of load")
	if err := f.Parse(args); err != nil {
		return err
	}
	b.scenarios, b.sides = strings.Split(*scenarios, ","), strings.Split(*of, ",")
	b.arguments, b.environment = strings.Fields(*arguments), strings.Fields(*environment)
	if err := onDisk(b.dir); err != nil {
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
	if *output != "" {
		text, encoding := json.MarshalIndent(results, "", "  ")
		err = errors.Join(err, encoding, os.WriteFile(*output, append(text, '\n'), 0o600))
	}
	return err
}

// all gives each side its turns, scenario by scenario.
func (b *bench) all(ctx context.Context) (results []*load.Result, err error) {
	for _, text := range b.scenarios {
		s, err := load.ParseScenario(text)
		if err != nil {
			return results, err
		}
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
	side, known := sides[name]
	if !known {
		return nil, fmt.Errorf("there is no side %q: take reprise or upstream", name)
	}
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
	if b.profile == "" || c.Profiles == "" || s.Kind != load.Deploy && s.Kind != load.Watchers {
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
