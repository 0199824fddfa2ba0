//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// inNamespace marks the process that runs in the network namespace.
const inNamespace = "REPRISE_E2E_IN_NAMESPACE"

// TestMain runs the tests in a network namespace of their own, so that they
// leave the machine's links, routes and nftables alone.
func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "e2e: these tests start containers and need root")
		os.Exit(1)
	}
	if os.Getenv(inNamespace) == "" {
		os.Exit(reexec())
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: cannot bring up loopback: %v\n%s", err, out)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func reexec() int {
	// Tests that run in parallel wait for containers most of the time.
	cmd := exec.Command("/proc/self/exe", append([]string{"-test.parallel=8"}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Run(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %v\n", err)
		return max(cmd.ProcessState.ExitCode(), 1)
	}
	return 0
}

// repository is the checkout's root, and binaries where `make build tools` puts
// what the tests run.
func repository() string {
	wd, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return filepath.Join(wd, "..", "..", "..")
}

func binaries() string { return filepath.Join(repository(), "dist", "bin") }
