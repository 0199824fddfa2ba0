package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	// bigLog is where containerd's log is put aside at its next start.
	bigLog = 16 << 20
	// stopTimeout is how long containerd may take to end when asked to.
	stopTimeout = 10 * time.Second
)

// process is a containerd that runs: our child, or one that an earlier process
// of ours left running. It outlives us in both cases.
type process struct {
	pid int
	// ended is closed when it does not run any more.
	ended chan struct{}
	// pidfd refers to this very process, even if its id is given to another.
	pidfd *os.File
}

// spawn starts containerd in a session of its own, so that neither Ctrl-C in our
// terminal nor our end reaches it.
func spawn(c Config) (*process, error) {
	if info, err := os.Stat(c.LogFile()); err == nil && info.Size() > bigLog {
		if err := os.Rename(c.LogFile(), c.LogFile()+".1"); err != nil {
			return nil, err
		}
	}
	log, err := os.OpenFile(c.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(c.containerd(), "--config", c.configFile(), "--log-level", "warn")
	cmd.Dir = "/"
	cmd.Env = environ(c, os.Environ())
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start containerd: %w", err)
	}
	p, err := watch(cmd.Process.Pid)
	if err != nil {
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	// A child that ended stays a zombie until its parent has looked.
	go func() { _ = cmd.Wait() }()
	if err := writeFile(c.pidFile(), []byte(strconv.Itoa(p.pid)+"\n")); err != nil {
		// Nobody would find it before it listens.
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// environ is our environment with the node's programs found first: containerd
// is told where runc is, and yet looks for it at each sandbox, to learn what it
// can do.
func environ(c Config, ours []string) []string {
	path := c.BinDir
	for _, v := range ours {
		if rest, ok := strings.CutPrefix(v, "PATH="); ok && rest != "" {
			path = c.BinDir + string(os.PathListSeparator) + rest
		}
	}
	// Of several values of one name the last counts.
	return append(slices.Clone(ours), "PATH="+path)
}

// watch takes hold of a process that may not be our child.
func watch(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("cannot watch process %d: %w", pid, err)
	}
	p := &process{pid: pid, ended: make(chan struct{}), pidfd: os.NewFile(uintptr(fd), "pidfd")}
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, p.pidfd.Close())
	}
	go func() {
		// The descriptor becomes readable when the process ends.
		err := conn.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return n == 1 && err == nil
		})
		if err == nil {
			close(p.ended)
		}
	}()
	return p, nil
}

// release lets go of the process without ending it; ended is not closed then.
func (p *process) release() { _ = p.pidfd.Close() }

func (p *process) signal(s syscall.Signal) error {
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := conn.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), s, nil, 0) }); err != nil {
		return err
	}
	return sent
}

// stop ends the process, politely at first, and lets go of it.
func (p *process) stop() error {
	defer p.release()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := p.signal(s); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("cannot end containerd, process %d: %w", p.pid, err)
		}
		select {
		case <-p.ended:
			return nil
		case <-time.After(stopTimeout):
		}
	}
	return fmt.Errorf("containerd, process %d, does not end even when killed", p.pid)
}

// running finds the containerd of this node, if there is one: by who listens on
// its socket, else by the id that was written down.
func running(c Config) (*process, error) {
	pid := listener(c.Socket())
	if pid == 0 {
		text, err := os.ReadFile(c.pidFile())
		if err != nil {
			return nil, nil
		}
		if pid, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
			return nil, nil
		}
	}
	p, err := watch(pid)
	if errors.Is(err, syscall.ESRCH) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// Only now, while we hold it, does looking at its id say something about it.
	if !commandLine(pid, "--config", c.configFile()) {
		p.release()
		return nil, nil
	}
	return p, nil
}

// listener returns the process that listens on a Unix socket, or 0.
func listener(socket string) int {
	conn, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return 0
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(peer.Pid)
		}
	})
	return pid
}

// commandLine says whether a process was started with these arguments in a row.
func commandLine(pid int, args ...string) bool {
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	wanted := "\x00" + strings.Join(args, "\x00") + "\x00"
	return err == nil && bytes.Contains(line, []byte(wanted))
}

// awaitEnd waits until none of the processes is left.
func awaitEnd(ctx context.Context, pids []int) error {
	return wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, stopTimeout, true, func(context.Context) (bool, error) {
		for _, pid := range pids {
			if alive(pid) {
				return false, nil
			}
		}
		return true, nil
	})
}

// alive says whether a process still does anything: one that waits to be
// collected by its parent does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return len(rest) > 0 && rest[0] != 'Z' && rest[0] != 'X'
}

// logTail returns the last lines of containerd's log, for an error message.
func logTail(c Config, lines int) string {
	text, err := os.ReadFile(c.LogFile())
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// writeFile replaces a file as a whole: whoever reads it sees the old or the new.
func writeFile(path string, content []byte) error {
	if err := os.WriteFile(path+".new", content, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
