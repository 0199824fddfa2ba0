package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/reprise-run/reprise/cmd/load"
	"github.com/reprise-run/reprise/cmd/load/clusters"
)

// bench is what to do.
type bench struct {
	scenarios       []load.Scenario
	sides           []string
	rounds          int
	dist, dir       string
	arguments       []string // of our server
	environment     []string // of upstream's programs
	profile, output string
	profiled        time.Duration
	load.Options
}

// parse reads the command line, and refuses what could not be carried out to the end: a
// benchmark takes minutes to hours, and what was measured until then would be lost.
func parse(args []string, help io.Writer) (*bench, error) {
	var b bench
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	scenarios := f.String("scenario", "deploy", "deploy, rolling, failure or watchers, each also as KIND:PODS/NODES, separated by commas")
	of := f.String("sides", "reprise", "reprise, upstream, or both, separated by a comma")
	arguments := f.String("server", "", "arguments for 'reprise server', separated by spaces")
	environment := f.String("upstream-env", "", "variables for the environment of upstream's programs, as in GOGC=200, separated by spaces")
	f.StringVar(&b.output, "o", "", "a file to write the results to, as JSON")
	f.StringVar(&b.profile, "profile", "", "a file to write a CPU profile of the server of Reprise to, in the scenarios deploy and watchers; that of the nodes goes beside it, as FILE.nodes")
	f.DurationVar(&b.profiled, "profiled", 20*time.Second, "for how long to profile: from the first request on, and the pods stay as long")
	f.IntVar(&b.rounds, "rounds", 1, "how often each side has its turn")
	f.StringVar(&b.dist, "dist", "dist", "where the programs are: below bin, and below peer")
	f.StringVar(&b.dir, "dir", os.TempDir(), "where clusters keep what they keep meanwhile; the kind of disk counts")
	f.DurationVar(&b.Within, "within", 15*time.Minute, "how long pods may take to become ready, and to go")
	f.DurationVar(&b.Idle, "idle", 0, "how long each cluster does nothing before the load")
	f.Float64Var(&b.Probes, "probes", 20, "calls for single objects a second of load")
	f.SetOutput(io.Discard) // What is wrong is said once, by main, and without all that could be right.
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		f.SetOutput(help)
		f.Usage()
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("%w (bench -h lists what there is)", err)
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%q is no flag: each begins with a dash, and a value of several words needs quotes", f.Arg(0))
	}
	b.sides, b.arguments, b.environment = strings.Split(*of, ","), strings.Fields(*arguments), strings.Fields(*environment)
	for text := range strings.SplitSeq(*scenarios, ",") {
		s, err := load.ParseScenario(text)
		if err == nil {
			err = fits(s)
		}
		if err != nil {
			return nil, err
		}
		b.scenarios = append(b.scenarios, s)
	}
	return &b, b.check()
}

// fits refuses a scenario whose pods have no room on its nodes.
func fits(s load.Scenario) error {
	nodes, left := load.Count(s.Nodes-s.Lost, "node"), ""
	if s.Lost > 0 {
		left = " that are left"
	}
	if room := (s.Nodes - s.Lost) * clusters.PodsPerNode; s.Pods > room {
		return fmt.Errorf("scenario %q: %s%s have room for %s, %d each: take more nodes or fewer pods", s, nodes, left, load.Count(room, "pod"), clusters.PodsPerNode)
	}
	return nil
}

// check refuses what is wrong in itself, whatever is on this machine.
func (b *bench) check() error {
	for i, side := range b.sides {
		if _, known := sides[side]; !known {
			return fmt.Errorf("-sides: there is no side %q: take reprise, upstream, or reprise,upstream", side)
		}
		if slices.Contains(b.sides[:i], side) {
			return fmt.Errorf("-sides: %s comes twice: take -rounds 2 to give it two turns", side)
		}
	}
	for _, variable := range b.environment {
		if name, _, is := strings.Cut(variable, "="); !is || name == "" {
			return fmt.Errorf("-upstream-env: %q is no variable: write NAME=VALUE", variable)
		}
	}
	if b.rounds < 1 {
		return fmt.Errorf("-rounds %d: each side needs at least 1 turn", b.rounds)
	}
	if b.profile != "" {
		if !slices.Contains(b.sides, "reprise") || !slices.ContainsFunc(b.scenarios, profiles) {
			return errors.New("-profile: nothing would be written: only reprise is profiled, in the scenarios deploy and watchers")
		}
		if b.profiled < time.Second {
			return fmt.Errorf("-profiled %v: a profile takes at least a second", b.profiled)
		}
	}
	return b.Check()
}

// profiles says whether a profile is taken of a scenario.
func profiles(s load.Scenario) bool { return s.Kind == load.Deploy || s.Kind == load.Watchers }

// prepare refuses what this machine lacks: programs, and files that can be written.
func (b *bench) prepare() error {
	for _, name := range b.sides {
		side := sides[name]
		for _, file := range side.files {
			path := filepath.Join(b.dist, side.bin, file)
			if _, err := os.Stat(path); err != nil {
				return fmt.Errorf("cannot use a program of %s: %w: %s, or say with -dist where it is", name, err, side.build)
			}
		}
	}
	if err := onDisk(b.dir); err != nil {
		return err
	}
	if err := writable("-o", b.output); err != nil {
		return err
	}
	if b.profile == "" {
		return nil
	}
	return errors.Join(writable("-profile", b.profile), writable("-profile", b.profile+".nodes"))
}

// writable makes a file that is to be written at the end, if it is not there: what is in it
// stays until there is something better.
func writable(flag, path string) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("%s: cannot write there: %w", flag, err)
	}
	return f.Close()
}
