package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"syscall"
)

// The statuses with which shells say what became of a command that did not run, or
// that a signal ended.
const (
	notExecutable = 126
	notFound      = 127
	bySignal      = 128
)

// ended passes on how a command ended that ran inside of ours, or says why it did not
// run, by the status that a shell would give.
func (m *Main) ended(ctx context.Context, c *exec.Cmd, name string, err error) error {
	var exit *exec.ExitError
	status := notExecutable
	switch {
	case errors.As(err, &exit):
		if how, ok := exit.Sys().(syscall.WaitStatus); ok && how.Signaled() {
			return exitCode(bySignal + int(how.Signal()))
		}
		return exitCode(exit.ExitCode())
	case err == nil || ctx.Err() != nil && c.ProcessState != nil: // We were interrupted, and it ended well.
		return nil
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
		status = notFound
	}
	fmt.Fprintf(m.Stderr, "reprise: cannot run %s: %v\n", name, err)
	return exitCode(status)
}
