// Command durable measures how many events a second the committer appends
// durably, beside etcd on the same disk: the same values, the same writers, by
// turns in one run, and both sync before they answer.
//
// Ours is what a server runs: the committer, over JetStream in this process,
// with its projections in memory and on disk that follow. etcd runs in this
// process too, and is spoken to without a network; each write is the transaction
// by which the Kubernetes API creates an object.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"
)

// side is one of the two that are compared.
type side interface {
	// write creates an object that was not there, and returns when that is
	// durable.
	write(ctx context.Context, name string, value []byte) error
	close()
}

// outcome is what one run of a side came to.
type outcome struct {
	rate     float64 // writes a second
	p50, p99 time.Duration
	cpu      time.Duration // user and system, a write
}

func main() {
	dir := flag.String("dir", "", "where both keep their data; the disk that is measured (a temporary directory if empty)")
	turns := flag.Int("turns", 3, "how often each side has its turn")
	length := flag.Duration("length", 4*time.Second, "how long a turn is")
	profile := flag.String("profile", "", "measure our side alone, and write its CPU profile with 256 writers to this file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	measure := func() error { return run(ctx, *dir, *turns, *length) }
	if *profile != "" {
		measure = func() error { return profiled(ctx, *dir, *length, *profile) }
	}
	if err := measure(); err != nil {
		fmt.Fprintln(os.Stderr, "durable:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, under string, turns int, length time.Duration) error {
	fmt.Printf("%d turns of %v each; load %s\n", turns, length, load())
	out := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "writers\t\twrites/s\tp50\tp99\tCPU a write\t")
	for _, writers := range []int{1, 256} {
		sides := map[string][]outcome{}
		order := []string{"reprise", "etcd"}
		for range turns {
			for _, name := range order {
				o, err := turn(ctx, name, under, writers, length)
				if err != nil {
					return fmt.Errorf("%s, %d writers: %w", name, writers, err)
				}
				sides[name] = append(sides[name], o)
			}
			slices.Reverse(order) // neither is always the one that comes first
		}
		ours, theirs := median(sides["reprise"]), median(sides["etcd"])
		for _, s := range []struct {
			name string
			outcome
		}{{"reprise", ours}, {"etcd 3.6", theirs}} {
			fmt.Fprintf(out, "%d\t%s\t%.0f\t%.2f ms\t%.2f ms\t%.0f us\t\n",
				writers, s.name, s.rate, milliseconds(s.p50), milliseconds(s.p99), 1000*milliseconds(s.cpu))
		}
		fmt.Fprintf(out, "\tratio\t%.2f\t%.2f\t%.2f\t%.2f\t\n", ours.rate/theirs.rate,
			ratio(ours.p50, theirs.p50), ratio(ours.p99, theirs.p99), ratio(ours.cpu, theirs.cpu))
	}
	return out.Flush()
}

// profiled runs our side once, and says what it costs.
func profiled(ctx context.Context, under string, length time.Duration, file string) error {
	to, err := os.Create(file)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := pprof.StartCPUProfile(to); err != nil {
		return err
	}
	o, err := turn(ctx, "reprise", under, 256, length)
	pprof.StopCPUProfile()
	fmt.Printf("%.0f writes/s, p50 %.2f ms, %.0f us of CPU a write\n", o.rate, milliseconds(o.p50), 1000*milliseconds(o.cpu))
	return err
}

// turn runs one side on an empty directory.
func turn(ctx context.Context, name, under string, writers int, length time.Duration) (outcome, error) {
	dir, err := os.MkdirTemp(under, "durable-")
	if err != nil {
		return outcome{}, err
	}
	defer os.RemoveAll(dir)
	var s side
	if name == "etcd" {
		s, err = startEtcd(ctx, dir)
	} else {
		s, err = startOurs(ctx, dir)
	}
	if err != nil {
		return outcome{}, err
	}
	defer s.close()
	// What the other side wrote is not to be paid for now.
	syscall.Sync()
	if _, err := drive(ctx, s, "warm", writers, length/4); err != nil {
		return outcome{}, err
	}
	return drive(ctx, s, "run", writers, length)
}

// drive has many writers create objects for a while, each the next as soon as
// the last is durable.
func drive(ctx context.Context, s side, run string, writers int, length time.Duration) (outcome, error) {
	var (
		group  sync.WaitGroup
		took   = make([][]time.Duration, writers)
		failed atomic.Pointer[error]
		begun  = time.Now()
		before = used()
	)
	for w := range writers {
		group.Go(func() {
			for n := 0; time.Since(begun) < length && failed.Load() == nil; n++ {
				name := fmt.Sprintf("web-%s-%d-%d", run, w, n)
				value := pod(name, w, n)
				asked := time.Now()
				if err := s.write(ctx, name, value); err != nil {
					failed.Store(&err)
					return
				}
				took[w] = append(took[w], time.Since(asked))
			}
		})
	}
	group.Wait()
	lasted, cpu := time.Since(begun), used()-before
	if err := failed.Load(); err != nil {
		return outcome{}, *err
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	return outcome{
		rate: float64(len(all)) / lasted.Seconds(),
		p50:  all[len(all)/2], p99: all[len(all)*99/100],
		cpu: cpu / time.Duration(len(all)),
	}, nil
}

// median is the turn of middling rate.
func median(turns []outcome) outcome {
	slices.SortFunc(turns, func(a, b outcome) int { return int(a.rate - b.rate) })
	return turns[len(turns)/2]
}

// used is the CPU time of this process so far.
func used() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

func load() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	load, _, _ := strings.Cut(string(raw), " ")
	return load
}
