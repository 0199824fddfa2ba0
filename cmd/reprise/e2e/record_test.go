//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recordings are lives of small clusters, each of which testdata/logs has as an
// archive. To record one anew:
//
//	REPRISE_RECORD=rollout go test -tags e2e -count 1 -run TestRecord ./cmd/reprise/e2e
var recordings = map[string]func(*cluster){
	"rollout":   rollout,
	"crashloop": crashloop,
	"pending":   pending,
}

// TestRecord writes the recording that REPRISE_RECORD names. What it records is
// tested where recordings are read.
func TestRecord(t *testing.T) {
	name := os.Getenv("REPRISE_RECORD")
	if name == "" {
		t.Skip("set REPRISE_RECORD to the name of a recording to make it anew")
	}
	live := recordings[name]
	if live == nil {
		t.Fatalf("there is no recording %q", name)
	}
	c := unstarted(t)
	c.up = []string{"--node", "node-1"}
	c.start()
	live(c)
	c.eventually("the log is at rest", c.atRest())
	file := filepath.Join(repository(), "testdata", "logs", name+".reprise")
	check(t, os.MkdirAll(filepath.Dir(file), 0o755))
	t.Log(c.must("reprise", "export", "--force", file))
	check(t, os.Chmod(file, 0o644))
}

// rollout is a deployment that is scaled, gets a new template, loses a pod and a
// container, is taken back and deleted.
func rollout(c *cluster) {
	web := filepath.Join("testdata", "manifests", "web.yaml")
	done := func() { c.kubectl("rollout", "status", "deployment/web", "--timeout=2m") }
	c.kubectl("apply", "-f", web)
	done()
	c.kubectl("scale", "deployment/web", "--replicas=5")
	done()
	c.kubectl("set", "env", "deployment/web", "DEMO_VERSION=2")
	done()
	pods := strings.Fields(c.kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"))
	c.kubectl("delete", "pod", pods[0])
	done()
	c.kubectl("rollout", "undo", "deployment/web")
	done()
	c.kubectl("scale", "deployment/web", "--replicas=2")
	done()
	c.kubectl("delete", "-f", web)
	c.eventuallyPrints("", "get", "pods", "-l", "app=web", "-o", "name")
}

// crashloop is a deployment whose new template cannot start, and is corrected.
func crashloop(c *cluster) {
	web := filepath.Join("testdata", "manifests", "web.yaml")
	c.kubectl("apply", "-f", web)
	c.kubectl("rollout", "status", "deployment/web", "--timeout=2m")
	patch := `[{"op":"add","path":"/spec/template/spec/containers/0/args","value":[%s]}]`
	c.kubectl("patch", "deployment/web", "--type=json", "-p", strings.ReplaceAll(patch, "%s", `"-no-such-flag"`))
	c.eventually("a container has crashed three times", func() error {
		out, err := c.try("kubectl", "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.containerStatuses[0].restartCount}")
		if err == nil && !strings.ContainsAny(out, "3456789") {
			err = os.ErrDeadlineExceeded
		}
		return err
	})
	c.kubectl("rollout", "undo", "deployment/web")
	c.kubectl("rollout", "status", "deployment/web", "--timeout=2m")
}

// pending is pods that fit nowhere until others go: large and small ones, a node
// that is cordoned, and a taint.
func pending(c *cluster) {
	c.apply(strings.ReplaceAll(web, "name: web", "name: first"))
	c.kubectl("rollout", "status", "deployment/first", "--timeout=2m")
	c.kubectl("create", "deployment", "large", "--image=reprise.run/demo:1", "--replicas=2")
	c.kubectl("set", "resources", "deployment/large", "--requests=cpu=100")
	c.kubectl("cordon", "node-1")
	c.kubectl("scale", "deployment/first", "--replicas=4")
	c.kubectl("taint", "node", "node-1", "quiet=yes:NoSchedule")
	c.kubectl("uncordon", "node-1")
	c.eventually("pods wait", func() error {
		out, err := c.try("kubectl", "get", "pods", "--field-selector=status.phase=Pending", "-o", "name")
		if err == nil && strings.Count(out, "\n") < 2 {
			err = os.ErrDeadlineExceeded
		}
		return err
	})
	c.kubectl("taint", "node", "node-1", "quiet-")
	c.kubectl("set", "resources", "deployment/large", "--requests=cpu=10m")
	c.kubectl("rollout", "status", "deployment/first", "--timeout=2m")
	c.kubectl("rollout", "status", "deployment/large", "--timeout=2m")
}
