//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestAsk lets things happen in one cluster, and asks for them in all the ways
// there are.
func TestAsk(t *testing.T) {
	c := newCluster(t)
	for _, namespace := range []string{"shop", "prod"} {
		c.kubectl("create", "namespace", namespace)
		c.kubectl("apply", "-n", namespace, "-f", "testdata/manifests/web.yaml")
	}
	c.shopHas(3, "reprise.run/demo:1")
	c.kubectl("rollout", "status", "-n", "prod", "deployment/web")
	c.eventually("the log is at rest", c.atRest())
	before := c.newest()
	c.kubectl("scale", "-n", "shop", "deployment/web", "--replicas=2")
	// Of several things that led to a decision its cause is the newest: that is the
	// change of the image if the end of a pod does not come in between.
	c.shopHas(2, "reprise.run/demo:1")
	c.eventually("the log is at rest", c.atRest())
	c.kubectl("set", "image", "-n", "shop", "deployment/web", "web=reprise.run/demo:2")
	c.shopHas(2, "reprise.run/demo:2")
	c.kubectl("create", "configmap", "-n", "shop", "twice", "--from-literal=a=1")
	c.kubectl("delete", "configmap", "-n", "shop", "twice")
	c.kubectl("create", "configmap", "-n", "shop", "twice", "--from-literal=a=2")
	c.apply(`
apiVersion: v1
kind: Pod
metadata: {name: big, namespace: shop}
spec:
  containers: [{name: big, image: "reprise.run/demo:1", resources: {requests: {cpu: 4000}}}]
`)
	c.eventually("the scheduler refuses the big pod", func() error {
		_, err := c.try("kubectl", "wait", "-n", "shop", "pod/big", "--for=condition=PodScheduled=False", "--timeout=10s")
		return err
	})
	c.eventually("the log is at rest", c.atRest())
	for _, test := range []struct {
		name string
		do   func(t *testing.T, c *cluster, before string)
	}{
		{"history", testTelling}, {"names", testNaming}, {"why", testCauses}, {"diff", testDiff}, {"wrong", testWrongQuestions},
	} {
		t.Run(test.name, func(t *testing.T) { test.do(t, c.in(t), before) })
	}
}

// shopHas waits until the shop has so many pods of web, ready, with this image, and no
// others on their way out.
func (c *cluster) shopHas(pods int, image string) {
	c.t.Helper()
	c.kubectl("rollout", "status", "-n", "shop", "deployment/web")
	c.eventuallyPrints(strings.TrimSpace(strings.Repeat(image+" ", pods)), "get", "pods", "-n", "shop", "-l", "app=web",
		"-o", "jsonpath={.items[*].spec.containers[0].image}")
}

// newest is the sequence of the newest event.
func (c *cluster) newest() string {
	c.t.Helper()
	out := c.must("reprise", "history", "-A", "--limit", "1", "-o", "json")
	var e struct{ ID string }
	if err := json.Unmarshal([]byte(out), &e); err != nil || e.ID == "" {
		c.t.Fatalf("the newest event is %q: %v", out, err)
	}
	return e.ID
}

// tells checks that a command prints some things and not others: those that begin
// with a !.
func (c *cluster) tells(parts []string, args ...string) string {
	c.t.Helper()
	out := c.must("reprise", args...)
	for _, part := range parts {
		absent, not := strings.CutPrefix(part, "!")
		if strings.Contains(out, strings.TrimPrefix(part, "!")) == not {
			c.t.Errorf("reprise %s: %q is wrong in\n%s", strings.Join(args, " "), absent, out)
		}
	}
	return out
}

func testTelling(t *testing.T, c *cluster, before string) {
	out := c.tells([]string{"deployment.scaled  deployments.apps/shop/web", "for admin", "spec.replicas 3 -> 2",
		`spec.template.spec.containers[web].image "reprise.run/demo:1" -> "reprise.run/demo:2"`, "condition Available", "!managedFields", "!generation"},
		"history", "deployment/web", "-n", "shop")
	c.tells([]string{"metadata.generation 1 -> 2", "metadata.managedFields"}, "history", "deployment/web", "-n", "shop", "-o", "wide")
	c.tells([]string{"deployment.scaled", "!deployment.created", "!/prod/"}, "history", "deployments", "-n", "shop", "--from", "@"+before)
	c.tells([]string{"deployment.created", "!deployment.scaled", "configmap.created", "!/prod/"}, "history", "-n", "shop", "--to", before)
	c.tells([]string{"pod.bound", "by scheduler", "was the best of 1 node", "!by api"}, "history", "-A", "--actor", "scheduler")
	c.tells([]string{"container.started", "!pod.bound"}, "history", "pods", "--type", "container.*", "--since", "1h")
	c.tells([]string{"for admin", "!by scheduler"}, "history", "--user", "admin")
	uid := strings.TrimSpace(c.kubectl("get", "-n", "shop", "deployment/web", "-o", "jsonpath={.metadata.uid}"))
	if byUID := c.must("reprise", "history", uid); byUID != out {
		t.Errorf("by its uid it is told as\n%s\nnot as\n%s", byUID, out)
	}
	first, last := sequences(out)[0], sequences(out)[len(sequences(out))-1]
	if got := sequences(c.must("reprise", "history", "-n", "shop", "deployment/web", "--limit", "1")); len(got) != 1 || got[0] != last {
		t.Errorf("the newest event is %v, not %s", got, last)
	}
	if got := sequences(c.must("reprise", "history", "-n", "shop", "deployment/web", "--reverse")); got[0] != last || got[len(got)-1] != first {
		t.Errorf("in reverse the events are %v", got)
	}
	text := c.must("reprise", "history", "-n", "shop", "deployment/web", "--limit", "3", "-o", "text")
	if strings.Count(text, "\n  chain ") != 3 {
		t.Errorf("as text three events are\n%s", text)
	}
	testFollowing(t, c)
}

var sequence = regexp.MustCompile(`  seq (\d+)`)

func sequences(out string) (all []string) {
	for _, m := range sequence.FindAllStringSubmatch(out, -1) {
		all = append(all, m[1])
	}
	return all
}

// testFollowing waits for what is to come.
func testFollowing(t *testing.T, c *cluster) {
	follow := c.command("reprise", "history", "deployment/web", "-n", "prod", "--follow", "--limit", "1")
	out := &transcript{}
	follow.Stdout = out
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = follow.Process.Kill()
		_ = follow.Wait()
	}()
	waitFor := func(part string) {
		c.eventually("history --follow tells "+part, func() error {
			if !strings.Contains(out.String(), part) {
				return fmt.Errorf("it has told\n%s", out)
			}
			return nil
		})
	}
	waitFor("deployments.apps/prod/web")
	c.kubectl("label", "-n", "prod", "deployment/web", "tier=gold")
	waitFor(`+ metadata.labels.tier "gold"`)
}

func testNaming(t *testing.T, c *cluster, _ string) {
	c.refused(c.command("reprise", "history", "deployment/web"), "several objects", "deployments.apps/prod/web", "deployments.apps/shop/web", "say which")
	c.refused(c.command("reprise", "history", "deployment/web", "-n", "default"), "never was", "deployments.apps/prod/web")
	c.refused(c.command("reprise", "history", "pod/nothing"), "never was an object pod/nothing")
	c.refused(c.command("reprise", "history", "unicorn/web"), "no", "unicorn", "deployments.apps")
	c.refused(c.command("reprise", "why", "pods"), "is a kind")
	c.tells([]string{"pods/shop/big"}, "history", "big")
	out := c.tells([]string{"configmap.deleted", "two objects bore this name"}, "history", "cm/twice")
	uids := regexp.MustCompile(`configmaps/shop/twice was (\S+) before this line and is (\S+) after it`).FindStringSubmatch(out)
	if uids == nil {
		t.Fatalf("no uids in\n%s", out)
	}
	c.tells([]string{"configmap.deleted", "!bore this name"}, "history", "cm/twice", "--uid", uids[1])
	c.tells([]string{"!configmap.deleted", "configmap.created"}, "history", "cm/twice", "--uid", uids[2])
	c.refused(c.command("reprise", "history", "pod/big", "--uid", uids[1]), uids[1], "configmaps/shop/twice")
}

func testCauses(t *testing.T, c *cluster, _ string) {
	pod := strings.Fields(c.kubectl("get", "pods", "-n", "shop", "-l", "app=web", "-o", "name"))[0]
	out := c.tells([]string{"container.started", "pod.bound", "was the best of 1 node that would take it, among 1", "least allocated", "replicaset.",
		"deployment.image-changed", "It began with a command of admin"}, "why", pod, "-n", "shop")
	var up struct {
		Type    string
		Because json.RawMessage
	}
	depth := 0
	for doc := []byte(c.must("reprise", "why", pod, "-n", "shop", "-o", "json")); doc != nil; depth++ {
		up.Because = nil
		if err := json.Unmarshal(doc, &up); err != nil {
			t.Fatal(err)
		}
		doc = up.Because
	}
	if depth != len(sequences(out)) || up.Type != "deployment.image-changed" {
		t.Errorf("as JSON the chain is %d deep and begins with %s; it is\n%s", depth, up.Type, out)
	}
	root := sequences(out)[len(sequences(out))-1]
	c.tells([]string{"pod.bound", "container.started"}, "why", "--down", "@"+root)
	c.tells([]string{"There is more than these 2"}, "why", "--down", root, "--limit", "2")
	var down struct {
		Then []struct{ Type string }
	}
	if err := json.Unmarshal([]byte(c.must("reprise", "why", "--down", root, "-o", "json")), &down); err != nil || len(down.Then) == 0 {
		t.Errorf("as JSON nothing followed from %s: %v", root, err)
	}
	c.tells([]string{"pod.unschedulable", "none of 1 node would take it", "1 Insufficient cpu", "pods/shop/big is not scheduled: 0/1 nodes are available: 1 Insufficient cpu"},
		"why", "pod/big", "-n", "shop")
}

func testDiff(t *testing.T, c *cluster, before string) {
	c.tells([]string{"~ deployments.apps/shop/web", "spec.replicas 3 -> 2", "+ pods/shop/big", "+ configmaps/shop/twice", "- pods/shop/web-", "!/prod/"},
		"diff", "--from", "@"+before, "-n", "shop")
	c.tells([]string{"+ pods/shop/big", "1 added, 0 removed, 0 changed"}, "diff", "--from", "@"+before, "pod/big")
	c.tells([]string{"~ deployments.apps/shop/web", "spec.replicas 3 -> 2", "!pods/", "0 added, 0 removed, 1 changed"}, "diff", "--from", "@"+before, "deployment/web", "-n", "shop")
	c.tells([]string{"+ pods/shop/web-", "- pods/shop/web-", "!deployments", "!pods/shop/big"}, "diff", "--from", "@"+before, "pods", "-l", "app=web")
	c.tells([]string{"nothing is different"}, "diff", "--from", "now")
	var first struct{ Object, Difference string }
	out := c.must("reprise", "diff", "--from", before, "-n", "shop", "-o", "json")
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&first); err != nil || first.Object == "" || first.Difference == "" {
		t.Errorf("as JSON a difference is %q: %v", out, err)
	}
	for args, want := range map[string]int{"--from now": 0, "--from @" + before: 1, "--from 0": 2} {
		cmd := c.command("reprise", append([]string{"diff", "--exit-code"}, strings.Fields(args)...)...)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("reprise diff %s exits with %d, not %d:\n%s", args, got, want, out)
		}
	}
}

func testWrongQuestions(_ *testing.T, c *cluster, before string) {
	for _, test := range []struct {
		cmd  *exec.Cmd
		says []string
	}{
		{c.command("reprise", "history", "-A", "--from", "@999999999"), []string{"--from", "no event 999999999 yet", "the log goes from sequence 1 ("}},
		{c.command("reprise", "history", "-A", "--to", "2099-01-01 00:00"), []string{"--to", "in the future", "the log goes from"}},
		{c.command("reprise", "history", "-A", "--from", "-9999d"), []string{"before the log began"}},
		{c.command("reprise", "history", "-A", "--from", "yesterday"), []string{`"yesterday" names no moment`, "-15m"}},
		{c.command("reprise", "why", "@999999999"), []string{"there is no event 999999999"}},
		{c.command("reprise", "why", "@x"), []string{"is no sequence"}},
		{c.command("reprise", "diff", "--from", "now", "--to", "@"+before), []string{"is after --to"}},
		{c.command("reprise", "history", "-A", "--from", "now", "--to", "@"+before), []string{"nothing happened from now to @" + before}},
		{c.command("reprise", "diff", "--from", "2020-01-01 00:00"), []string{"before the log began"}},
		{c.command("reprise", "diff", "--from", "@1", "pod/nothing"), []string{"never was"}},
	} {
		c.refused(test.cmd, test.says...)
	}
}
