//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fleet is a process of hollow nodes.
type fleet struct {
	t       *testing.T
	process *exec.Cmd
	output  *transcript
	exited  chan struct{}
}

func (c *cluster) hollow(t *testing.T, args ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, output: &transcript{}, exited: make(chan struct{})}
	f.process = c.command("reprise", append([]string{"agent"}, args...)...)
	f.process.Stdout, f.process.Stderr = f.output, f.output
	if err := f.process.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = f.process.Wait()
		close(f.exited)
	}()
	t.Cleanup(func() { f.signal(syscall.SIGKILL) })
	c.eventually("the hollow nodes are ready", func() error {
		select {
		case <-f.exited:
			t.Fatalf("reprise agent ended:\n%s", f.output)
		default:
		}
		if !strings.Contains(f.output.String(), "Ready.") {
			return errors.New("they have not said so")
		}
		return nil
	})
	return f
}

func (f *fleet) signal(s syscall.Signal) {
	_ = f.process.Process.Signal(s)
	select {
	case <-f.exited:
	case <-time.After(patience):
		f.t.Errorf("reprise agent did not end within %s of %s", patience, s)
	}
}

// TestHollowNodes runs a control plane without a node and fifty hollow nodes beside
// it, kills it and starts it again, loses the nodes all at once, and gets them back.
func TestHollowNodes(t *testing.T) {
	c := unstarted(t)
	c.verb, c.up = "server", []string{"--node-monitor-grace-period", "15s"}
	c.start()
	nodes := c.hollow(t, "--hollow", "50")
	ready := func(want int) {
		t.Helper()
		c.eventually(fmt.Sprintf("%d nodes are ready", want), func() error {
			out, err := c.try("kubectl", "get", "nodes", "-o", `jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}`)
			if err != nil {
				return err
			}
			if all, got := strings.Count(out, "\n"), strings.Count(out, "True"); all != 50 || got != want {
				return fmt.Errorf("of %d nodes %d are", all, got)
			}
			return nil
		})
	}
	ready(50)
	c.kubectl("create", "deployment", "web", "--image", "img", "--replicas", "200")
	c.eventuallyPrints("200", "get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}")
	hosts := map[string]bool{}
	for _, node := range strings.Fields(c.kubectl("get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}")) {
		hosts[node] = true
	}
	if len(hosts) < 40 {
		t.Errorf("200 pods run on %d nodes of 50", len(hosts))
	}
	for _, ip := range strings.Fields(c.kubectl("get", "pods", "-o", "jsonpath={.items[*].status.podIP}")) {
		if !strings.HasPrefix(ip, "10.128.") {
			t.Errorf("a pod has the address %s", ip)
		}
	}
	// The nodes outlive the server, and do what the next one says.
	c.kill()
	c.start()
	c.kubectl("scale", "deployment", "web", "--replicas", "220")
	c.eventuallyPrints("220", "get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}")
	select {
	case <-nodes.exited:
		t.Fatalf("the hollow nodes ended with the server:\n%s", nodes.output)
	default:
	}
	ready(50)
	nodes.signal(syscall.SIGKILL)
	ready(0)
	c.eventuallyPrints("", "get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}")
	again := c.hollow(t, "--hollow", "50")
	ready(50)
	c.eventuallyPrints("220", "get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}")
	c.kubectl("delete", "deployment", "web")
	c.eventuallyPrints("", "get", "pods", "-o", "name")
	again.signal(syscall.SIGINT)
	if out := again.output.String(); strings.Contains(out, "reprise:") {
		t.Errorf("the agent did not end in peace:\n%s", out)
	}
}
