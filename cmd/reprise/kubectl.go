package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // the credential plugins that a kubeconfig may name
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	kubectl "k8s.io/kubectl/pkg/cmd"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// newKubectlCommand embeds upstream's kubectl, pointed at this cluster unless
// KUBECONFIG or a flag points elsewhere.
func newKubectlCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl ARGS...",
		Short: "Run kubectl, which is built in, against this cluster",
		Example: `  reprise kubectl get pods -A
  reprise kubectl apply -f web.yaml`,
		DisableFlagParsing: true,
		ValidArgsFunction:  env.proposesAsKubectl,
		RunE: func(c *cobra.Command, args []string) error {
			if os.Getenv("KUBECONFIG") == "" {
				env.explainWithoutCluster()
				if err := os.Setenv("KUBECONFIG", env.Kubeconfig()); err != nil {
					return err
				}
			}
			if _, err := logs.GlogSetter(kubectl.GetLogVerbosity(append([]string{"kubectl"}, args...))); err != nil {
				return err
			}
			k := env.embeddedKubectl(args)
			k.SetArgs(args)
			k.SetContext(c.Context())
			if err := cli.RunNoErrOutput(k); err != nil {
				cmdutil.CheckErr(err) // prints as kubectl does and exits with its code
			}
			return nil
		},
	}
}

// embeddedKubectl is upstream's kubectl, which looks for a plugin that some arguments
// may name.
func (e *environment) embeddedKubectl(args []string) *cobra.Command {
	streams := genericiooptions.IOStreams{In: e.Stdin, Out: e.Stdout, ErrOut: e.Stderr}
	return kubectl.NewDefaultKubectlCommandWithArgs(kubectl.KubectlOptions{
		PluginHandler: kubectl.NewDefaultPluginHandler([]string{"kubectl"}),
		Arguments:     append([]string{"kubectl"}, args...),
		ConfigFlags: genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().
			WithDiscoveryBurst(300).WithDiscoveryQPS(50).WithWarningPrinter(streams),
		IOStreams: streams,
	})
}

// explainWithoutCluster has kubectl's failures end with what to do, if there is no
// cluster that it could talk to.
func (e *environment) explainWithoutCluster() {
	if _, err := os.Stat(e.Kubeconfig()); !errors.Is(err, os.ErrNotExist) {
		return
	}
	cmdutil.BehaviorOnFatal(func(message string, code int) {
		fmt.Fprintf(e.Stderr, "%s\nreprise: no cluster was started here (there is no %s): `reprise up` starts one, and --data-dir says where one is\n",
			strings.TrimSpace(message), e.Kubeconfig())
		os.Exit(code)
	})
}
