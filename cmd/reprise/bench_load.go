package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/reprise-run/reprise/cmd/load"
)

// loadOptions are what `reprise bench load` is told.
type loadOptions struct {
	kubeconfig     string
	side           string
	scenarios      []string
	control, nodes map[string]int
	data           []string
	lose           string
	lost           int
	perDeployment  int
	watchers       int
	output         string
	load.Options
}

func newLoadCommand(env *environment) *cobra.Command {
	var o loadOptions
	c := &cobra.Command{
		Use:   "load",
		Short: "Put load on a running cluster and say what it costs",
		Long: `Creates Deployments through the Kubernetes API, watches their pods come and go, and
prints how fast that was and what it took: CPU time and memory of the processes that
are named, events, bytes on disk. The cluster may be any that speaks the API; its
nodes should be hollow. It must be on this machine for all but the times to be seen.`,
		Example: `  # 2,000 pods on the 200 nodes of a cluster that runs
  reprise bench load --control server=$SERVER_PID --nodes agent=$AGENT_PID --data /var/lib/reprise

  # A rolling update of 500 pods, as JSON
  reprise bench load --scenario rolling:500/50 -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return env.load(c.Context(), o) },
	}
	f := c.Flags()
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "whom to load (default the cluster of this machine)")
	f.StringVar(&o.side, "side", "reprise", "what the cluster is called in the results")
	f.StringSliceVar(&o.scenarios, "scenario", []string{"deploy"}, "deploy, rolling, failure or watchers, each also as KIND:PODS/NODES")
	f.StringToIntVar(&o.control, "control", nil, "process ids of the control plane, as in server=123")
	f.StringToIntVar(&o.nodes, "nodes", nil, "process ids of what stands for the nodes, as in agent=124")
	f.StringSliceVar(&o.data, "data", nil, "directories in which the control plane keeps what must last")
	f.StringVar(&o.lose, "lose", "", "the name in --nodes of the process that is killed in the scenario of failure")
	f.IntVar(&o.lost, "lost", 0, "how many nodes that process runs (default a tenth)")
	f.IntVar(&o.perDeployment, "pods-per-deployment", 100, "how many pods a Deployment has")
	f.IntVar(&o.watchers, "watchers", 1000, "how many clients watch in that scenario")
	f.DurationVar(&o.Within, "within", 15*time.Minute, "how long the pods may take to become ready, and to go")
	f.DurationVar(&o.Idle, "idle", 0, "how long the cluster does nothing before the load")
	f.Float64Var(&o.Probes, "probes", 20, "calls for single objects a second of load")
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	return c
}

// scenario reads one as the flags change it.
func (o *loadOptions) scenario(text string) (load.Scenario, error) {
	s, err := load.ParseScenario(text)
	if err != nil {
		return s, err
	}
	s.PerDeployment = o.perDeployment
	if s.Watchers > 0 {
		s.Watchers = o.watchers
	}
	if s.Lost > 0 && o.lost > 0 {
		s.Lost = o.lost
	}
	return s, s.Check()
}

// all reads the scenarios and refuses what could not be carried out to the end, before
// anything is asked of the cluster.
func (o *loadOptions) all() (all []load.Scenario, err error) {
	switch {
	case o.output != "text" && o.output != "json":
		return nil, fmt.Errorf("--output %q: take text or json", o.output)
	case o.perDeployment < 1 || o.watchers < 1:
		return nil, errors.New("--pods-per-deployment and --watchers must be at least 1")
	case o.lost < 0:
		return nil, fmt.Errorf("--lost %d: it must not be negative (0 is a tenth of the nodes)", o.lost)
	}
	if err := o.Check(); err != nil {
		return nil, err
	}
	for flag, group := range map[string]map[string]int{"--control": o.control, "--nodes": o.nodes} {
		for name, pid := range group {
			if pid < 1 { // The kernel takes these for many processes at once.
				return nil, fmt.Errorf("%s %s=%d: the id of a process is at least 1", flag, name, pid)
			}
		}
	}
	failures := 0
	for _, text := range o.scenarios {
		s, err := o.scenario(text)
		if err == nil && s.Kind == load.Failure {
			failures++
			err = o.canLose(s)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	if failures > 1 {
		return nil, fmt.Errorf("--scenario: failure comes %d times, and the process that --lose names can be killed once", failures)
	}
	return all, nil
}

// canLose refuses a failure of which it was not said what is killed.
func (o *loadOptions) canLose(s load.Scenario) error {
	if _, named := o.nodes[o.lose]; named {
		return nil
	}
	why := "it kills a process that runs nodes, and none was named"
	if o.lose != "" {
		why = fmt.Sprintf("--lose %s is none of the names in --nodes", o.lose)
	}
	names := "none"
	if len(o.nodes) > 0 {
		names = strings.Join(slices.Sorted(maps.Keys(o.nodes)), ", ")
	}
	return fmt.Errorf("scenario %q: %s: give --nodes NAME=PID and --lose NAME (--nodes gives %s)", s, why, names)
}

func (e *environment) load(ctx context.Context, o loadOptions) error {
	all, err := o.all()
	if err != nil {
		return err
	}
	if o.kubeconfig == "" {
		o.kubeconfig = e.Kubeconfig()
	}
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return fmt.Errorf("cannot use %s: %w", o.kubeconfig, err)
	}
	target := load.Target{Side: o.side, Config: config, Control: o.control, Nodes: o.nodes, Data: o.data}
	target.Ended = o.mustRun().Ended
	if pid, named := o.nodes[o.lose]; named {
		target.Fail = func() error {
			delete(o.nodes, o.lose) // What does not run is not counted.
			return load.Kill(pid)
		}
	}
	o.Say = newProgress(e.Stderr).say
	var results []*load.Result
	for _, s := range all {
		result, err := load.Run(ctx, target, s, o.Options)
		if err == nil {
			results = append(results, result)
			err = printResult(e.Stdout, result, o.output)
		}
		if err != nil {
			return errors.Join(err, load.Unreached(results))
		}
	}
	return load.Unreached(results)
}

// mustRun are the processes that were named, but for the one that may be killed.
func (o *loadOptions) mustRun() load.Processes {
	all := load.Processes{}
	maps.Copy(all, o.nodes)
	delete(all, o.lose)
	maps.Copy(all, o.control)
	return all
}

func printResult(w io.Writer, r *load.Result, output string) error {
	if output == "json" {
		return json.NewEncoder(w).Encode(r)
	}
	return r.Print(w)
}
