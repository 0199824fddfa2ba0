//go:build e2e

package node_test

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// apart marks the process that runs in namespaces of its own.
const apart = "REPRISE_NODE_E2E_APART"

// TestMain runs the tests in a network and a mount namespace of their own, so
// that they leave nothing on the machine.
func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "e2e: these tests start containers and need root")
		os.Exit(1)
	}
	if os.Getenv(apart) == "" {
		os.Exit(reexec())
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: cannot bring up loopback: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	if err := down(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: down: %v\n", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func reexec() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), apart+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Run(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %v\n", err)
		return max(cmd.ProcessState.ExitCode(), 1)
	}
	return 0
}
