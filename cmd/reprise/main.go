// Command reprise is the whole of Reprise in one binary: the server, the node
// agent, and the tools of those who use them. What it does is in the packages
// under agents, projections and events; here they are configured, wired
// together, started and stopped.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/grpclog"
)

// programVersion is set by the linker.
var programVersion = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second Ctrl-C ends the program at once, whatever holds up its end.
	context.AfterFunc(ctx, stop)
	m := NewMain()
	if err := m.Run(ctx, os.Args[1:]); err != nil {
		var code exitCode
		if errors.As(err, &code) {
			os.Exit(int(code))
		}
		fmt.Fprintf(m.Stderr, "reprise: %v\n", err)
		os.Exit(1)
	}
}

// exitCode ends the program with a status and without a message of ours,
// because what ran inside has said its own.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }

// Main is the program with its outside: tests give it buffers.
type Main struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// NewMain returns the program on the process's own standard streams.
func NewMain() *Main {
	return &Main{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
}

// Run carries out one command line and returns when it is done or ctx ends.
func (m *Main) Run(ctx context.Context, args []string) error {
	// Upstream's libraries register flags of their own for every program that
	// links them; none is one of ours.
	pflag.CommandLine = pflag.NewFlagSet("reprise", pflag.ContinueOnError)
	// A connection that fails is reported by who needs it.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	env := &environment{Main: m}
	root := &cobra.Command{
		Use:   "reprise",
		Short: "A container orchestrator that never forgets",
		Long: `Reprise runs containers as Kubernetes does, and kubectl, Helm and client-go work
with it as they are. Every change of desired and of actual state is an event in
one log, so you can ask how the cluster came to be as it is.`,
		Example: `  # Start a cluster of one node on this machine
  reprise up

  # Talk to it
  reprise kubectl get nodes

  # Ask what happened to a pod, and because of what
  reprise history pods/default/web-7c9
  reprise why pods/default/web-7c9`,
		Version:       programVersion,
		SilenceUsage:  true,
		SilenceErrors: true,
		// Flags before the command are ours even where the command takes all that follow.
		TraverseChildren:           true,
		SuggestionsMinimumDistance: 2,
		Args:                       noSuchCommand,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetArgs(args)
	root.SetIn(m.Stdin)
	root.SetOut(m.Stdout)
	root.SetErr(m.Stderr)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; `%s --help` lists what there is", err, c.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.StringVar(&env.DataDir, "data-dir", cmp.Or(os.Getenv("REPRISE_DATA_DIR"), defaultDataDir),
		"where the log, the projections, keys and images are kept ($REPRISE_DATA_DIR)")
	flags.StringVar(&env.RunDir, "run-dir", cmp.Or(os.Getenv("REPRISE_RUN_DIR"), defaultRunDir),
		"where sockets and process ids are kept ($REPRISE_RUN_DIR)")
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run a cluster:"},
		&cobra.Group{ID: "use", Title: "Use it:"},
		&cobra.Group{ID: "ask", Title: "Ask its history:"},
	)
	root.AddCommand(commands(env)...)
	return root.ExecuteContext(ctx)
}

// noSuchCommand refuses what is no command of c, and says which one is near.
func noSuchCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	near := ""
	if found := c.SuggestionsFor(args[0]); len(found) > 0 {
		near = fmt.Sprintf(" (did you mean %s?)", strings.Join(found, " or "))
	}
	return fmt.Errorf("there is no command %q%s; `%s --help` lists them all", args[0], near, c.CommandPath())
}

// commands lists what the binary can do.
func commands(env *environment) []*cobra.Command {
	grouped := map[string][]*cobra.Command{
		"run": {newUpCommand(env), newServerCommand(env), newAgentCommand(env), newDownCommand(env), newSecretsCommand(env)},
		"use": {newKubectlCommand(env), newImagesCommand(env), newIntegratorCommand(env)},
		"ask": {newHistoryCommand(env), newWhyCommand(env), newDiffCommand(env), newEventsCommand(env), newRewindCommand(env), newVerifyCommand(env), newReplayCommand(env), newCheckpointCommand(env)},
	}
	var all []*cobra.Command
	grouped["ask"] = append(grouped["ask"], newExportCommand(env), newOpenCommand(env))
	for _, group := range []string{"run", "use", "ask"} {
		for _, c := range grouped[group] {
			c.GroupID = group
			all = append(all, c)
		}
	}
	return append(all, newBenchCommand(env))
}
