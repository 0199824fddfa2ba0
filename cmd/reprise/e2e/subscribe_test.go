//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestSubscribe runs what docs/subscribe.md tells integrators to do.
func TestSubscribe(t *testing.T) {
	c := newCluster(t)
	for _, namespace := range []string{"shop", "shop-go", "shop-javascript", "shop-plain", "shop-ordered", "office"} {
		c.kubectl("create", "namespace", namespace)
	}
	t.Run("examples", func(t *testing.T) {
		for name, example := range map[string]func(*testing.T) subscriber{"go": goExample, "javascript": javascriptExample, "plain": plainExample, "ordered": orderedExample} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				own := *c
				own.t = t
				own.resumes(example(t), "shop-"+name)
			})
		}
	})
	t.Run("refused", c.refusesIntegrators)
	t.Run("webhook", c.delivers)
	t.Run("restart", c.keepsIntegrators)
}

// TestAsyncAPI holds the document of all subjects against AsyncAPI's own schema.
func TestAsyncAPI(t *testing.T) {
	check := filepath.Join(repository(), "dist", "asyncapi", "check.js")
	if out, err := exec.Command("node", check, filepath.Join(repository(), "schemas", "asyncapi.json")).CombinedOutput(); err != nil {
		t.Errorf("%v (make dist/.stamps/asyncapi installs what this needs)\n%s", err, out)
	}
}

// subscriber starts an example's program with the arguments that it wants.
type subscriber struct {
	command  []string
	options  []string // of `integrator create`
	password bool
	address  func(url string) string
}

func goExample(t *testing.T) subscriber {
	program := filepath.Join(t.TempDir(), "subscribe")
	build := exec.Command("go", "build", "-o", program, "./docs/examples/subscribe/go")
	build.Dir = repository()
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the example does not build: %v\n%s", err, out)
	}
	return subscriber{command: []string{program}}
}

// orderedExample is the same program as an integrator whose acknowledgements are of all
// events up to one.
func orderedExample(t *testing.T) subscriber {
	s := goExample(t)
	s.options = []string{"--in-order"}
	return s
}

func javascriptExample(t *testing.T) subscriber {
	installed := filepath.Join(repository(), "dist", "javascript")
	if _, err := os.Stat(filepath.Join(installed, "node_modules")); err != nil {
		t.Fatal("the client for JavaScript is not there: make dist/.stamps/javascript")
	}
	source, err := os.ReadFile(filepath.Join(repository(), "docs/examples/subscribe/javascript/subscribe.js"))
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(installed, "subscribe.js")
	if err := os.WriteFile(program, source, 0o644); err != nil {
		t.Fatal(err)
	}
	return subscriber{command: []string{"node", program}}
}

func plainExample(*testing.T) subscriber {
	return subscriber{
		command: []string{"bash", filepath.Join(repository(), "docs/examples/subscribe/plain/subscribe.sh")}, password: true,
		address: func(url string) string { return strings.TrimPrefix(url, "nats://") },
	}
}

// resumes has a program read what happens in the namespace of its name, kills it,
// lets more happen, and starts it again: it must have read each event, in order.
func (c *cluster) resumes(s subscriber, name string) {
	secret := filepath.Join(c.t.TempDir(), "secret")
	args := append([]string{"integrator", "create", name, "--allow", "configmaps." + name + ".>", "--out", secret}, s.options...)
	if s.password {
		args = append(args, "--password")
	}
	said := c.must("reprise", args...)
	url := said[strings.Index(said, "nats://"):]
	url = url[:strings.IndexAny(url, `"`)]
	if s.address != nil {
		url = s.address(url)
	}
	var all []string
	for round := range 3 {
		// What happens elsewhere is not for it.
		c.kubectl("create", "configmap", fmt.Sprintf("%s-%d", name, round), "-n", "office")
		want := fmt.Sprintf("%s-%d", name, round)
		c.kubectl("create", "configmap", want, "-n", name, "--from-literal=key=välue")
		cmd := exec.Command(s.command[0], append(s.command[1:], url, name, secret)...)
		out := &transcript{}
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			c.t.Fatal(err)
		}
		c.eventually(name+" prints what happened to "+want, func() error {
			if !strings.Contains(out.String(), "configmap.created configmaps/"+name+"/"+want+" ") {
				return fmt.Errorf("it prints %q", out)
			}
			return nil
		})
		c.eventually(name+" has acknowledged it", func() error { return c.hasReadAll(name) })
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		all = append(all, strings.Split(strings.TrimSpace(out.String()), "\n")...)
	}
	last := 0
	for _, line := range all {
		id, err := strconv.Atoi(strings.Fields(line)[0])
		if err != nil || id <= last || !strings.Contains(line, "configmaps/"+name+"/") {
			c.t.Errorf("after event %d it printed %q", last, line)
		}
		last = id
	}
	if n := strings.Count(strings.Join(all, "\n"), "configmap.created configmaps/"+name+"/"+name); n != 3 {
		c.t.Errorf("it printed %d of 3 events:\n%s", n, strings.Join(all, "\n"))
	}
}

// hasReadAll says whether nothing waits for an integrator.
func (c *cluster) hasReadAll(name string) error {
	out, err := c.reprise("integrator", "list")
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); f[0] == name {
			if f[3] == "0" && f[4] == "0" {
				return nil
			}
			return errors.New(line)
		}
	}
	return fmt.Errorf("it is not in the list:\n%s", out)
}

// refusesIntegrators gives `integrator` what it cannot work with.
func (c *cluster) refusesIntegrators(t *testing.T) {
	c.in(t).must("reprise", "integrator", "create", "taken", "--allow", "pods.shop.>", "--out", filepath.Join(t.TempDir(), "secret"))
	for name, test := range map[string]struct{ args, says []string }{
		"no pattern":    {[]string{"create", "a"}, []string{"--allow", "pods.shop.>"}},
		"bad pattern":   {[]string{"create", "a", "--allow", "pod.shop.>"}, []string{"pod.shop.>", "did you mean pods?", "pods.shop.>"}},
		"bad fact":      {[]string{"create", "a", "--allow", "pods.shop.bond"}, []string{"bond", "bound"}},
		"bad name":      {[]string{"create", "A_b", "--allow", ">"}, []string{"A_b", "lower case"}},
		"no name":       {[]string{"create", "--allow", ">"}, []string{"which integrator?"}},
		"taken":         {[]string{"create", "taken", "--allow", ">"}, []string{"taken", "already"}},
		"the future":    {[]string{"create", "a", "--allow", ">", "--from", "@99999999"}, []string{"--from", "99999999"}},
		"nonsense":      {[]string{"create", "a", "--allow", ">", "--from", "yesterdayish"}, []string{"--from", "yesterdayish"}},
		"unknown":       {[]string{"delete", "nobody"}, []string{"nobody", "no such"}},
		"no subcommand": {[]string{"destroy", "nobody"}, []string{`"destroy"`}},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := c.command("reprise", append([]string{"integrator"}, test.args...)...)
			cmd.Dir = t.TempDir()
			c.in(t).refused(cmd, test.says...)
			if left, _ := os.ReadDir(cmd.Dir); len(left) > 0 {
				t.Errorf("it has left %s behind", left[0].Name())
			}
		})
	}
}

// keepsIntegrators kills the server: integrators and their positions outlive it.
func (c *cluster) keepsIntegrators(t *testing.T) {
	c = c.in(t)
	secret := filepath.Join(t.TempDir(), "secret")
	c.must("reprise", "integrator", "create", "lasting", "--allow", "configmaps.shop.>", "--out", secret, "--from", "start")
	s := goExample(t)
	out := &transcript{}
	cmd := exec.Command(s.command[0], "nats://127.0.0.1:4222", "lasting", secret)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.eventually("it has read all", func() error { return c.hasReadAll("lasting") })
	before := out.String()
	c.kill()
	c.start()
	c.kubectl("create", "configmap", "after-the-crash", "-n", "shop")
	c.eventually("the program goes on by itself", func() error {
		if !strings.Contains(out.String(), "configmaps/shop/after-the-crash ") {
			return fmt.Errorf("it prints %q", out)
		}
		return nil
	})
	// What it had acknowledged in the second before the crash may come again, in order.
	again := strings.Split(strings.TrimSpace(strings.TrimPrefix(out.String(), before)), "\n")
	last := 0
	for _, line := range again {
		id, err := strconv.Atoi(strings.Fields(line)[0])
		if err != nil || id <= last {
			t.Errorf("after the restart it has read:\n%s", strings.Join(again, "\n"))
		}
		last = id
	}
	c.must("reprise", "integrator", "revoke", "lasting")
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	c.eventually("its connection is refused", func() error {
		fresh := exec.Command(s.command[0], "nats://127.0.0.1:4222", "lasting", secret)
		timer := time.AfterFunc(2*time.Second, func() { _ = fresh.Process.Kill() })
		defer timer.Stop()
		if printed, _ := fresh.CombinedOutput(); strings.Contains(string(printed), "configmap.") {
			return fmt.Errorf("it reads %s", printed)
		}
		return nil
	})
	_ = cmd.Process.Kill()
	<-ended
}
