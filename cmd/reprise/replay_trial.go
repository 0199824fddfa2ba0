package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/reprise-run/reprise/agents/replay"
	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/scheduler"
)

// try tells what would have been with another scheduler. It reads the history
// twice: to learn how long each pod ran, and to try.
func (e *environment) try(ctx context.Context, past pastLog, f replayFlags) error {
	policy, err := readPolicy(f.scheduler)
	if err != nil {
		return err
	}
	other, err := scheduler.NewWith("", policy)
	if err != nil {
		return err
	}
	o, err := replayOptions(ctx, past, f)
	if err != nil {
		return err
	}
	state, err := past.state()
	if err != nil {
		return err
	}
	survey := replay.NewSurvey(state)
	if err := e.read(ctx, past, "surveyed", o.From, o.To, reader{state, survey.Feed}); err != nil {
		return err
	}
	if survey.Bindings() == 0 {
		return errors.New("the scheduler bound no pod in this history, so there is nothing to compare with")
	}
	same, _, err := replay.Deciders("scheduler", survey.Setup())
	if err != nil {
		return err
	}
	printed := json.NewEncoder(e.Stdout)
	tell := func(p replay.Placement) {
		if f.output == "json" {
			_ = printed.Encode(map[string]any{"placement": p}) // the outcome's failure to print tells
			return
		}
		fmt.Fprintln(e.Stdout, p.Text())
	}
	trial, asTried, err := newTrial(past, other, survey, tell)
	if err != nil {
		return err
	}
	control, asIs, err := newTrial(past, same, survey, nil)
	if err != nil {
		return err
	}
	if err := e.read(ctx, past, "tried", o.From, o.To, asTried, asIs); err != nil {
		return err
	}
	outcome, check := trial.Finish(), control.Finish()
	if f.output == "json" {
		return printed.Encode(map[string]any{"outcome": outcome, "control": check, "assumptions": replay.Assumptions})
	}
	fmt.Fprintf(e.Stdout, "%s\n%s", outcome.Text(), replay.Assumptions)
	n := check.Same + check.Different + check.OnlyThen + check.OnlyNow
	fmt.Fprintf(e.Stdout, "With the scheduler as it was, the simulation puts %d of %d pods where they were.\n", check.Same, n)
	return nil
}

// newTrial returns a trial from the beginning of a history, and how it reads.
func newTrial(past pastLog, s runner.Decider, survey *replay.Survey, tell func(replay.Placement)) (*replay.Trial, reader, error) {
	state, err := past.state()
	if err != nil {
		return nil, reader{}, err
	}
	t := replay.NewTrial(s, survey, state, tell)
	return t, reader{state, t.Feed}, nil
}
