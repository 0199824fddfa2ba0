package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"
)

// Who interrupts us hears how a command ended that ran, and that one did not run.
func TestInterruptedCommands(t *testing.T) {
	m := &Main{Stderr: io.Discard}
	ctx, interrupt := context.WithCancel(t.Context())
	c := exec.CommandContext(ctx, "sh", "-c", `trap "exit 0" INT; echo ready; read nothing`)
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err == nil {
		_, err = bufio.NewReader(out).ReadString('\n')
	}
	if err != nil {
		t.Fatal(err)
	}
	interrupt()
	if err := m.ended(ctx, c, "sh", c.Wait()); err != nil {
		t.Errorf("it ended well: %v", err)
	}
	c = exec.CommandContext(ctx, "true")
	var code exitCode
	if err := m.ended(ctx, c, "true", c.Run()); !errors.As(err, &code) || code != notExecutable {
		t.Errorf("it did not run: %v", err)
	}
}
