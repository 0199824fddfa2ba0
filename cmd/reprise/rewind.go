package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/reprise-run/reprise/agents/api/past"
)

// newRewindCommand lets any client look at the cluster as it was.
func newRewindCommand(env *environment) *cobra.Command {
	o := rewindOptions{environment: env}
	c := &cobra.Command{
		Use:   "rewind POINT -- COMMAND...",
		Short: "Look at the cluster as it was, with kubectl or any other client",
		Long: `Runs a command that sees the cluster as it was at a moment: all its objects, with
selectors, tables, descriptions and custom resources as they were then. It can look
at everything and change nothing, and sees what you may see now.

A moment is a time (10:42, "2026-11-26 10:42", 2026-11-26T10:42:00Z), a while ago
(-15m, -3d), an event by its number (@812), or now.`,
		Example: `  # The pods before the incident
  reprise rewind 10:42 -- kubectl get pods -A -o wide

  # What a deployment was a quarter of an hour ago, and what has changed since
  reprise rewind -15m -- kubectl get deployment web -o yaml > then.yaml
  reprise kubectl get deployment web -o yaml | diff then.yaml -

  # Right before event 812
  reprise rewind @811 -- kubectl describe pod web-7c9

  # Add a context to your kubeconfig that any client can use, and take it out again
  reprise rewind -15m --serve
  k9s --context reprise@812
  reprise rewind --remove reprise@812`,
		// A moment such as -15m looks like flags, and so do those of the command.
		DisableFlagParsing: true,
		ValidArgsFunction:  o.proposes,
		RunE:               func(c *cobra.Command, args []string) error { return o.parse(c, args) },
	}
	f := c.Flags()
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "whose access to use; else $KUBECONFIG, else the administrator's")
	f.StringVar(&o.context, "context", "", "which context of the kubeconfig to use, if not its current one")
	f.BoolVar(&o.serve, "serve", false, "add a context to the kubeconfig instead of running a command")
	f.BoolVar(&o.remove, "remove", false, "remove the contexts named, or all that --serve has added")
	return c
}

type rewindOptions struct {
	*environment
	kubeconfig, context string
	serve, remove       bool
}

// back is a moment so long ago, which is no flag.
var back = regexp.MustCompile(`^-\d`)

// parse reads: [flags] POINT [flags] [--] COMMAND...
func (o *rewindOptions) parse(c *cobra.Command, args []string) error {
	var point string
	end := slices.Index(args, "--")
	if end < 0 {
		end = len(args)
	}
	if i := slices.IndexFunc(args[:end], back.MatchString); i >= 0 {
		point = args[i]
		args = slices.Delete(slices.Clone(args), i, i+1)
	}
	c.DisableFlagParsing = false
	c.Flags().SetInterspersed(false)
	if err := c.ParseFlags(args); err != nil {
		return fmt.Errorf("%w; see `reprise rewind --help`", err)
	}
	args = c.Flags().Args()
	if o.remove {
		return o.removeContexts(args)
	}
	if point == "" && len(args) > 0 {
		point = args[0]
		if err := c.ParseFlags(args[1:]); err != nil {
			return fmt.Errorf("%w; a command comes after --", err)
		}
		args = c.Flags().Args()
	}
	if help, _ := c.Flags().GetBool("help"); help {
		return c.Help()
	}
	if point == "" {
		return fmt.Errorf("to which moment? Say for example: %s -15m -- kubectl get pods, or --help", c.CommandPath())
	}
	return o.run(c.Context(), point, args)
}

// proposes has the shell propose what kubectl would, after that, and elsewhere nothing
// but commands.
func (o *rewindOptions) proposes(c *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	i := slices.Index(args, "--")
	switch {
	case i < 0:
		return nil, cobra.ShellCompDirectiveNoFileComp
	case i+1 < len(args) && args[i+1] == "kubectl":
		return o.proposesAsKubectl(c, args[i+2:], word)
	}
	return nil, cobra.ShellCompDirectiveDefault
}

func (o *rewindOptions) run(ctx context.Context, point string, command []string) error {
	if o.serve && len(command) > 0 {
		return fmt.Errorf("--serve adds a context and runs nothing; leave out either --serve or %q", strings.Join(command, " "))
	}
	a, err := o.access()
	if err != nil {
		return err
	}
	m, err := a.resolve(ctx, point)
	if apierrors.IsBadRequest(err) && !strings.Contains(err.Error(), strings.TrimPrefix(point, "@")) {
		return fmt.Errorf("%s: %w", point, err)
	}
	if err != nil {
		return err
	}
	switch {
	case o.serve:
		return o.addContext(a, m)
	case len(command) > 0:
		return o.runThen(ctx, a, m, command)
	}
	fmt.Fprintf(o.Stdout, `%s is %s.
To look at the cluster as it was then, give a command:

  reprise rewind %s -- kubectl get pods -A

or add a context to your kubeconfig, for any client:

  reprise rewind %[1]s --serve
`, point, describe(m), point)
	return nil
}

// describe says which moment it is, in the person's time.
func describe(m past.Moment) string {
	ago := time.Since(m.Time).Round(time.Second)
	return fmt.Sprintf("sequence %d, %s (%s ago)", m.Sequence, m.Time.Local().Format("2006-01-02 15:04:05"), ago)
}

// runThen runs a command with a kubeconfig that leads into the past, and passes its
// exit status on.
func (o *rewindOptions) runThen(ctx context.Context, a *access, m past.Moment, command []string) error {
	dir, err := os.MkdirTemp("", "reprise-rewind-")
	if err != nil {
		return fmt.Errorf("cannot make a place for the kubeconfig of that moment: %w", err)
	}
	defer os.RemoveAll(dir)
	config, err := a.only(m)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "kubeconfig")
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		return fmt.Errorf("cannot write the kubeconfig of that moment: %w", err)
	}
	argv, err := program(command)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = o.Stdin, o.Stdout, o.Stderr
	// What kubectl remembers of a moment's API is of no use for another one.
	cmd.Env = append(os.Environ(), "KUBECONFIG="+file, "KUBECACHEDIR="+filepath.Join(dir, "cache"))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	return o.ended(ctx, cmd, command[0], cmd.Run())
}

// program finds what to run. kubectl is the one that the shell would find, or else
// ours.
func program(command []string) ([]string, error) {
	if _, err := exec.LookPath(command[0]); err == nil || command[0] != "kubectl" {
		return command, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("there is no kubectl, and this program cannot tell where it lies: %w", err)
	}
	return append([]string{self}, command...), nil
}

// addContext adds a context for a moment to the kubeconfig.
func (o *rewindOptions) addContext(a *access, m past.Moment) error {
	name := contextName(a.context, m)
	err := a.modify(func(c *clientcmdapi.Config) {
		context := a.config.Contexts[a.context].DeepCopy()
		cluster := a.config.Clusters[context.Cluster].DeepCopy()
		context.Cluster, context.LocationOfOrigin = name, ""
		cluster.Server, cluster.LocationOfOrigin = rewoundServer(cluster.Server, m), ""
		c.Clusters[name], c.Contexts[name] = cluster, context
	})
	if err != nil {
		return err
	}
	setup := ""
	if o.kubeconfig != "" || os.Getenv("KUBECONFIG") == "" {
		setup = fmt.Sprintf("  export KUBECONFIG=%s\n", a.file())
	}
	fmt.Fprintf(o.Stdout, `The context %s in %s is the cluster as it was at %s.
Any client can use it, and nothing changes in it:

%s  kubectl --context %[1]s get pods -A
  k9s --context %[1]s

It takes no room. When you are done:

  reprise rewind --remove %[1]s
`, name, a.file(), describe(m), setup)
	return nil
}

// removeContexts takes contexts of the past out of the kubeconfig: those named, or
// all.
func (o *rewindOptions) removeContexts(names []string) error {
	a, err := o.access()
	if err != nil {
		return err
	}
	all := a.rewound()
	for _, n := range names {
		if !slices.Contains(all, n) {
			return fmt.Errorf("%s has no context %q that --serve has added; it has: %s", a.file(), n, strings.Join(append(all, "no other"), ", "))
		}
	}
	if len(names) == 0 {
		names = all
	}
	if len(names) == 0 {
		fmt.Fprintf(o.Stdout, "%s has no context of the past.\n", a.file())
		return nil
	}
	err = a.modify(func(c *clientcmdapi.Config) {
		for _, n := range names {
			delete(c.Clusters, c.Contexts[n].Cluster)
			delete(c.Contexts, n)
			if c.CurrentContext == n {
				c.CurrentContext = a.base(n)
			}
		}
	})
	if err == nil {
		fmt.Fprintf(o.Stdout, "Removed from %s: %s.\n", a.file(), strings.Join(names, ", "))
	}
	return err
}
