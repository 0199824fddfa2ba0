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
	"syscall"
	"time"

	"github.com/reprise-run/reprise/cmd/torture/disk"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) == 3 && os.Args[1] == "serve" {
		err = serve(ctx, os.Args[2], os.Stdin, os.Stdout)
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
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("torture", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 200, "how many faults")
	flags.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "where all chance comes from")
	flags.IntVar(&o.age, "age", 20, "how many faults a disk lives through before it is replaced by an empty one")
	if err := flags.Parse(args); err != nil {
		return err
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
	fmt.Fprintf(out, "seed %d, %d rounds\n", o.seed, o.rounds)
	var total [denied + 1]int
	for done := 0; done < o.rounds; {
		random := rand.New(rand.NewPCG(o.seed, uint64(done)))
		r, err := newRack(ctx, home, out, random)
		if err != nil {
			return err
		}
		for i := 0; i < o.age && done < o.rounds && err == nil; i++ {
			done++
			began := time.Now()
			var what string
			what, err = r.round(ctx)
			fmt.Fprintf(out, "round %3d  %-90s %6d acknowledged, %4d unknown, %4d denied so far  %v\n", done, what,
				r.book.counts[acknowledged], r.book.counts[unknown], r.book.counts[denied], time.Since(began).Round(10*time.Millisecond))
		}
		if err != nil {
			err = fmt.Errorf("round %d of seed %d: %w", done, o.seed, err)
			if r.server != nil {
				err = fmt.Errorf("%w\n%s", err, r.server.errors)
			}
		}
		for i, n := range r.book.counts {
			total[i] += n
		}
		if err = errors.Join(err, r.close()); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "%d rounds: %d decisions acknowledged, none lost; %d without an answer, whole or absent; %d denied, absent\n",
		o.rounds, total[acknowledged], total[unknown], total[denied])
	return nil
}
