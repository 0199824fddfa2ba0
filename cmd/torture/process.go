package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
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

// startProcess starts a program, which ends when this one does.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, lines: make(chan string, 16), errors: &tail{}, ended: make(chan struct{})}
	p.cmd.Stderr = p.errors
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
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

// running says whether it has not ended.
func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
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

// end ends it by force.
func (p *process) end() error {
	p.kill()
	return p.wait()
}

// tail keeps the end of what a process writes to standard error.
type tail struct {
	mu    sync.Mutex
	lines []string
}

// Write is io.Writer's.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, string(b))
	if n := len(t.lines); n > 200 {
		t.lines = t.lines[n-200:]
	}
	return len(b), nil
}

// String is all that was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "")
}
