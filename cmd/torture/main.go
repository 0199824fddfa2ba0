// Command torture takes a log of Reprise through kills, power cuts and failing
// disks, and checks after each that nothing which was acknowledged is lost and
// nothing else is half there. See docs/reliability.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/reprise-run/reprise/cmd/torture/disk"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if words := os.Getenv(roleVariable); words != "" {
		err = play(ctx, strings.Fields(words), os.Stdin, os.Stdout)
	} else {
		err = run(ctx, os.Args[1:], os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

// options are those of the command line.
type options struct {
	rounds int
	seed   uint64
	age    int
	of     string
	binary string
	keep   string
	only   string
}

// subject returns what is to be tortured.
func (o options) subject(home string) subject {
	switch o.of {
	case ofCluster:
		return newClusterSubject(o.binary, home)
	case ofExternal:
		return newExternalSubject(home)
	}
	return newLogSubject(o.of == ofVolatile)
}

// What can be tortured.
const (
	ofLog      = "log"
	ofVolatile = "volatile"
	ofExternal = "external"
	ofCluster  = "cluster"
)

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("torture", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 200, "how many faults")
	flags.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "where all chance comes from")
	flags.IntVar(&o.age, "age", 20, "how many faults a disk lives through before it is replaced by an empty one")
	flags.StringVar(&o.of, "of", ofLog, "log: a log with its committer and its projection; volatile: the same with the log of Leases and Kubernetes Events; external: with NATS in a process of its own; cluster: 'reprise server' with hollow nodes")
	flags.StringVar(&o.binary, "reprise", "dist/bin/reprise", "the program, for a cluster")
	flags.StringVar(&o.keep, "keep", "", "a directory to make, for a copy of the data of a round that fails")
	flags.StringVar(&o.only, "trouble", "", "what goes wrong with the disk in each round: "+strings.Join(troubles, ", ")+"; by chance if empty")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("what is %q for? all is said by flags", flags.Arg(0))
	}
	if o.rounds < 1 || o.age < 1 {
		return fmt.Errorf("%d rounds, %d on each disk: say at least one", o.rounds, o.age)
	}
	if o.only != "" && !slices.Contains(troubles, o.only) {
		return fmt.Errorf("-trouble %s: say one of %s", o.only, strings.Join(troubles, ", "))
	}
	if slow := troubles[slowDisk]; o.of == ofExternal && o.only != "" && o.only != slow {
		return fmt.Errorf("-trouble %s: the disk of an external NATS does not fail; it can be %s", o.only, slow)
	}
	if all := []string{ofLog, ofVolatile, ofExternal, ofCluster}; !slices.Contains(all, o.of) {
		return fmt.Errorf("-of %s: say one of %s", o.of, strings.Join(all, ", "))
	}
	if missing := disk.Missing(); missing != "" {
		return fmt.Errorf("needs %s", missing)
	}
	return torture(ctx, o, out)
}

// torture goes through the rounds until one fails.
func torture(ctx context.Context, o options, out io.Writer) (err error) {
	home, err := os.MkdirTemp("", "torture-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(home)
	fmt.Fprintf(out, "%s, %d rounds, seed %d\n", o.of, o.rounds, o.seed)
	var total tally
	for done := 0; done < o.rounds; {
		n := min(o.age, o.rounds-done)
		counts, err := o.life(ctx, home, done, n, out)
		for i, n := range counts {
			total[i] += n
		}
		if ctx.Err() != nil {
			return errors.Join(fmt.Errorf("interrupted after %d rounds or more, with %v", done, total), err)
		}
		if err != nil {
			return err
		}
		done += n
	}
	fmt.Fprintf(out, "%d rounds: %v; none of the first lost, of the second all whole or absent, of the third all absent\n", o.rounds, total)
	return nil
}

// life is the rounds that one disk lives through.
func (o options) life(ctx context.Context, home string, done, rounds int, out io.Writer) (t tally, err error) {
	home, err = os.MkdirTemp(home, "")
	if err != nil {
		return t, err
	}
	is := o.subject(home)
	r, err := newRack(ctx, home, is, rand.New(rand.NewPCG(o.seed, uint64(done))))
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	r.sound, r.only = o.of == ofExternal, o.only
	for i := range rounds {
		began := time.Now()
		what, err := r.round(ctx)
		fmt.Fprintf(out, "round %3d  %v  %s; so far %v\n", done+i+1, time.Since(began).Round(10*time.Millisecond), what, is.counts())
		if err != nil && o.keep != "" {
			err = errors.Join(err, os.CopyFS(o.keep, os.DirFS(r.fs.Dir)))
		}
		if err != nil {
			return is.counts(), fmt.Errorf("round %d of seed %d: %w\n%s", done+i+1, o.seed, err, r.server.errors)
		}
	}
	return is.counts(), nil
}
