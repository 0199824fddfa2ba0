package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/agents/replay"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// replayFlags are what a replay is asked for.
type replayFlags struct {
	from, to, output, scheduler string
}

// newReplayCommand compares this program's decisions with those of the history.
func newReplayCommand(env *environment) *cobra.Command {
	var f replayFlags
	c := &cobra.Command{
		Use:   "replay [FILE.archive]",
		Short: "Decide again what was decided, and compare",
		Long: `Asks this program's scheduler and controllers each question that was asked of them
in the past, with the state and the time as they were then, and compares the
answers with what the history says. A program that behaves as the one that wrote
the history reports no difference; so run it with a new version before you
upgrade. Exits with 1 if there is a difference.

With --scheduler-config it tells instead where pods would have run if the scheduler
had been set up so: what would be on another node and why, how nodes would have
been used, and how long pods would have waited.

It reads the history of the cluster that runs here, or that in an archive.`,
		Example: `  reprise replay
  reprise replay --from -1h
  reprise replay incident.archive -o json
  reprise replay --scheduler-config packed.yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			switch f.output {
			case "", "wide", "json":
			default:
				return fmt.Errorf("there is no output %q: say wide or json", f.output)
			}
			file := ""
			if len(args) > 0 {
				file = args[0]
			}
			return env.past(file, func(p pastLog) error {
				if f.scheduler != "" {
					return env.try(c.Context(), p, f)
				}
				return env.replay(c.Context(), p, f)
			})
		},
	}
	c.Flags().StringVar(&f.from, "from", "", "compare only what was decided from a point on, as 10:42, -15m or @812")
	c.Flags().StringVar(&f.to, "to", "", "compare only what was decided up to a point")
	c.Flags().StringVar(&f.scheduler, "scheduler-config", "", "a KubeSchedulerConfiguration: tell what would have been with it")
	c.Flags().StringVarP(&f.output, "output", "o", "", "wide shows lines whole, json is for programs")
	return c
}

func (e *environment) replay(ctx context.Context, past pastLog, f replayFlags) error {
	o, err := replayOptions(ctx, past, f)
	if err != nil {
		return err
	}
	printed := json.NewEncoder(e.Stdout)
	o.Difference = func(d replay.Difference) {
		if f.output == "json" {
			_ = printed.Encode(map[string]any{"difference": d}) // the report's failure to print tells
			return
		}
		fmt.Fprintf(e.Stdout, "DIFFERENT  %s\n", d.Text(f.output == "wide"))
	}
	if o.State, err = past.state(); err != nil {
		return err
	}
	r := replay.New(o)
	if err := e.read(ctx, past, "replayed", 0, o.To, reader{feed: r.Feed}); err != nil {
		return err
	}
	report, err := r.Finish()
	if err != nil {
		return err
	}
	if f.output == "json" {
		err = printed.Encode(map[string]any{"report": report})
	} else {
		_, err = io.WriteString(e.Stdout, report.Text())
	}
	switch n := report.Differences; {
	case err != nil:
		return err
	case n == 1:
		return fmt.Errorf("this program decides otherwise in one case")
	case n > 1:
		return fmt.Errorf("this program decides otherwise in %d cases", n)
	}
	switch {
	case f.output == "json":
	case report.Equal() == 0:
		fmt.Fprintln(e.Stdout, "no differences, because there is no decision that can be compared")
	default:
		fmt.Fprintln(e.Stdout, "no differences: this program decides as it was decided")
	}
	return nil
}

// reader takes a history as it is read: what lies before it is folded into state.
type reader struct {
	state *projections.State
	feed  func([]events.Event) error
}

// read reads a history once, for all who want it, and says how far it is.
func (e *environment) read(ctx context.Context, past pastLog, doing string, from, to uint64, readers ...reader) error {
	meter := newMeter(e.Stderr, doing)
	for batch, err := range past.batches(ctx, to) {
		if err != nil {
			return err
		}
		before := 0
		for before < len(batch) && batch[before].Sequence < from {
			before++
		}
		for _, r := range readers {
			if before > 0 {
				if _, err := r.state.Fold(batch[:before:before]); err != nil {
					return err
				}
			}
			if before < len(batch) {
				if err := r.feed(batch[before:]); err != nil {
					return err
				}
			}
		}
		meter.at(batch[len(batch)-1].Sequence)
	}
	meter.end()
	return nil
}

// replayOptions finds the points between which to compare.
func replayOptions(ctx context.Context, past pastLog, f replayFlags) (o replay.Options, err error) {
	if f.from != "" {
		if o.From, err = past.point(ctx, f.from); err != nil {
			return o, fmt.Errorf("--from: %w", err)
		}
	}
	if f.to != "" {
		if o.To, err = past.point(ctx, f.to); err != nil {
			return o, fmt.Errorf("--to: %w", err)
		}
	}
	if o.To != 0 && o.From > o.To {
		return o, fmt.Errorf("nothing was decided from %s to %s: --from comes after --to", f.from, f.to)
	}
	return o, nil
}

// meter says now and then how far a long reading is.
type meter struct {
	w     io.Writer
	did   string
	start time.Time
	told  time.Time
	first uint64
	last  uint64
}

func newMeter(w io.Writer, did string) *meter {
	now := time.Now()
	return &meter{w: w, did: did, start: now, told: now}
}

// meterEvery is how often a meter tells.
const meterEvery = 2 * time.Second

func (m *meter) at(sequence uint64) {
	if m.first == 0 {
		m.first = sequence
	}
	m.last = sequence
	if now := time.Now(); now.Sub(m.told) >= meterEvery {
		m.told = now
		fmt.Fprintf(m.w, "%s up to @%d, %.0f events/s\n", m.did, sequence, float64(sequence-m.first+1)/now.Sub(m.start).Seconds())
	}
}

// end tells of a reading that took long.
func (m *meter) end() {
	if m.told != m.start {
		fmt.Fprintf(m.w, "read to the end, @%d, in %s\n", m.last, time.Since(m.start).Round(time.Millisecond))
	}
}
