// Package apart runs the tests of a package in kernel namespaces of their own,
// so that containers and networks which they start leave the machine's alone. The
// TestMain of each end-to-end test calls it; the program never does.
package apart

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// inside marks the process that runs in the namespaces.
const inside = "REPRISE_TEST_APART"

// Options adjust how tests run apart. They always have a network namespace.
type Options struct {
	// Mounts gives them a mount namespace too, with all mounts private.
	Mounts bool
	// Arguments come before those of the test binary.
	Arguments []string
	// After is called in the namespaces when the tests are done; may be nil.
	After func() error
}

// Main runs the tests in a process of their own and ends this one with their exit
// code. It needs root.
func Main(m *testing.M, o Options) {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "e2e: these tests start containers and need root")
		os.Exit(1)
	}
	if os.Getenv(inside) == "" {
		os.Exit(reexec(o))
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: cannot bring up loopback: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	if o.After != nil {
		if err := o.After(); err != nil {
			fmt.Fprintf(os.Stderr, "e2e: after the tests: %v\n", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

func reexec(o Options) int {
	cmd := exec.Command("/proc/self/exe", append(o.Arguments, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Unshared rather than cloned, the mounts are made private too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	if o.Mounts {
		cmd.SysProcAttr.Unshareflags |= syscall.CLONE_NEWNS
	}
	if err := cmd.Run(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %v\n", err)
		return max(cmd.ProcessState.ExitCode(), 1)
	}
	return 0
}
