package main

import (
	"fmt"
	"os"

	"github.com/reprise-run/reprise/agents/scheduler"
	"github.com/reprise-run/reprise/agents/scheduler/configuration"
)

// readPolicy reads a KubeSchedulerConfiguration; no path means the default.
func readPolicy(path string) (scheduler.Policy, error) {
	if path == "" {
		return scheduler.Policy{}, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return scheduler.Policy{}, fmt.Errorf("cannot read the scheduler's configuration: %w", err)
	}
	p, err := configuration.Parse(text)
	if err != nil {
		return p, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// readScheduler makes the scheduler that a configuration describes.
func readScheduler(path string) (*scheduler.Scheduler, error) {
	p, err := readPolicy(path)
	if err != nil {
		return nil, err
	}
	return scheduler.NewWith("", p)
}
