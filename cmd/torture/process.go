package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// process is a server under torture.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	lines  chan string // what it says, closed at its end
	errors *tail
	ended  chan struct{}
	why    error // set before ended is closed
}

// startProcess starts this program anew as a server on a directory.
func startProcess(dir string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(self, "serve", dir), lines: make(chan string, 16), errors: &tail{}, ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), serveDir+"="+dir)
	p.cmd.Stderr = p.errors
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
		close(p.lines)
		p.why = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// serveDir makes the binary of a test a server.
const serveDir = "REPRISE_TORTURE_SERVE"

// patience is how long a server may take for what takes it a second.
const patience = time.Minute

// line waits for what it says next.
func (p *process) line(ctx context.Context) (string, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case line, ok := <-p.lines:
		if ok {
			return line, nil
		}
		<-p.ended
		return "", fmt.Errorf("the server has ended: %w\n%s", p.why, p.errors)
	case <-timer.C:
		return "", fmt.Errorf("the server does not answer in %v\n%s", patience, p.errors)
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// ready waits until it serves, and says where, and with which key.
func (p *process) ready(ctx context.Context) (at, seed string, err error) {
	line, err := p.line(ctx)
	if err != nil {
		return "", "", err
	}
	fields := strings.Fields(line)
	if len(fields) != 3 || fields[0] != "ready" {
		return "", "", fmt.Errorf("the server said %q", line)
	}
	return fields[1], fields[2], nil
}

// verify has it compare its projection with a rebuild.
func (p *process) verify(ctx context.Context) error {
	if _, err := fmt.Fprintln(p.in, "verify"); err != nil {
		return err
	}
	line, err := p.line(ctx)
	if err == nil && !strings.HasPrefix(line, "identical") {
		err = errors.New("verify: " + line)
	}
	return err
}

// kill sends the signal that no program survives.
func (p *process) kill() { _ = p.cmd.Process.Kill() }

// wait returns when it is gone.
func (p *process) wait() error {
	for range p.lines { // Nobody listens any more.
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("process %d does not end", p.cmd.Process.Pid)
	}
}

// tail keeps the end of what a process writes to standard error.
type tail struct{ lines []string }

// Write is io.Writer's.
func (t *tail) Write(b []byte) (int, error) {
	t.lines = append(t.lines, string(b))
	if n := len(t.lines); n > 200 {
		t.lines = t.lines[n-200:]
	}
	return len(b), nil
}

// String is all that was kept.
func (t *tail) String() string { return strings.Join(t.lines, "") }
