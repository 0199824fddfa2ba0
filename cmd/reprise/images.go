package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/agents/node/images"
)

// newImagesCommand handles images without a registry.
func newImagesCommand(env *environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "images",
		Short: "Build, import and list container images, without a registry",
		Args:  noSuchCommand,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },

		SuggestionsMinimumDistance: 2,
	}
	var node string
	c.PersistentFlags().StringVar(&node, "node", hostname(), "the node on this machine whose images are meant")
	socket := func() string { return env.nodeConfig(node).Socket() }
	c.AddCommand(newImagesImportCommand(env, socket), newImagesListCommand(env, socket), newImagesBuildCommand(env))
	return c
}

func newImagesImportCommand(env *environment, socket func() string) *cobra.Command {
	return &cobra.Command{
		Use:     "import ARCHIVE...",
		Short:   "Give a node the images of archives (of `images build` or `docker save`)",
		Example: "  reprise images import web.tar",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			for _, archive := range args {
				got, err := images.Import(c.Context(), socket(), archive)
				if err != nil {
					return err
				}
				for _, image := range got {
					fmt.Fprintf(env.Stdout, "imported %s\n", strings.Join(image.Names, " "))
				}
			}
			return nil
		},
	}
}

func newImagesListCommand(env *environment, socket func() string) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the images that a node has",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := images.List(c.Context(), socket())
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(env.Stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tSIZE\tDIGEST")
			for _, image := range all {
				for _, name := range image.Names {
					fmt.Fprintf(w, "%s\t%.1f MB\t%s\n", name, float64(image.Size)/1e6, image.Digest)
				}
			}
			return w.Flush()
		},
	}
}

func newImagesBuildCommand(env *environment) *cobra.Command {
	var spec images.Spec
	var output string
	c := &cobra.Command{
		Use:   "build SOURCE",
		Short: "Make an image of a directory or of one static binary",
		Example: `  # An image whose root is what lies in ./rootfs
  reprise images build ./rootfs --name example.com/web:1 --entrypoint /bin/web

  # An image of one program
  reprise images build ./web --name example.com/web:1 && reprise images import web.tar`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			source, err := os.Stat(args[0])
			if err != nil {
				return fmt.Errorf("cannot read what the image is to hold: %w", err)
			}
			name := strings.TrimSuffix(filepath.Base(args[0]), ".tar")
			if source.IsDir() {
				spec.Dir = args[0]
			} else {
				spec.Files = []images.File{{From: args[0], To: "/" + name}}
				if len(spec.Entrypoint) == 0 {
					spec.Entrypoint = []string{"/" + name}
				}
			}
			if spec.Name == "" {
				spec.Name = name
			}
			if spec.Name, err = images.FullName(spec.Name); err != nil {
				return err
			}
			if output == "" {
				output = name + ".tar"
			}
			if err := images.Write(output, spec); err != nil {
				return err
			}
			fmt.Fprintf(env.Stdout, "%s is in %s; give it to a node with: reprise images import %s\n", spec.Name, output, output)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&spec.Name, "name", "", "the image's name, with tag (default: the source's)")
	f.StringVarP(&output, "output", "o", "", "the archive to write (default: the source's name and .tar, here)")
	f.StringSliceVar(&spec.Entrypoint, "entrypoint", nil, "the program and its first arguments (default: the binary)")
	f.StringSliceVar(&spec.Command, "cmd", nil, "the arguments that a pod may replace")
	f.StringSliceVar(&spec.Env, "env", nil, "environment variables, as NAME=value")
	f.StringSliceVar(&spec.Ports, "port", nil, "ports that it listens on, as 8080/tcp")
	f.StringVar(&spec.WorkingDir, "workdir", "", "the directory in which it starts")
	f.StringVar(&spec.User, "user", "", "the user as whom it runs, as uid or uid:gid")
	return c
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "node"
	}
	return strings.ToLower(name)
}
