//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReplay asks the deciders again what they decided in the life of a cluster, in
// which a rollout is cut in two by a crash of the server.
func TestReplay(t *testing.T) {
	c := newCluster(t)
	web := filepath.Join("testdata", "manifests", "web.yaml")
	c.kubectl("apply", "-f", web)
	c.kubectl("rollout", "status", "deployment/web", "--timeout=2m")
	c.kubectl("create", "namespace", "brief")
	c.kubectl("scale", "deployment/web", "--replicas=4")
	c.kubectl("set", "env", "deployment/web", "DEMO_VERSION=2")
	c.kill()
	c.start()
	c.kubectl("rollout", "status", "deployment/web", "--timeout=2m")
	c.kubectl("delete", "namespace", "brief")
	c.kubectl("delete", "-f", web)
	c.eventuallyPrints("", "get", "pods", "-l", "app=web", "-o", "name")
	c.eventually("the log is at rest", c.atRest())

	out := c.must("reprise", "replay")
	t.Log(out)
	if !strings.Contains(out, "no differences") || strings.Contains(out, "not comparable: 1 of controller") {
		t.Errorf("reprise replay says\n%s", out)
	}
	for _, agent := range []string{"scheduler", "controller:deployment", "controller:replicaset", "controller:namespace", "controller:garbage", "controller:rootca"} {
		if !strings.Contains(out, "\n"+agent+" ") {
			t.Errorf("nothing of %s was compared:\n%s", agent, out)
		}
	}
	if out := c.must("reprise", "replay", "--from", "-1s"); !strings.Contains(out, "no differences") {
		t.Errorf("reprise replay --from -1s says\n%s", out)
	}
	file := filepath.Join(c.dir, "life.reprise")
	c.must("reprise", "export", file)
	if out := c.must("reprise", "replay", file, "-o", "json"); !strings.Contains(out, `"differences":0`) {
		t.Errorf("reprise replay of an archive says\n%s", out)
	}
	packed := filepath.Join(c.dir, "packed.yaml")
	check(t, os.WriteFile(packed, []byte(`apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- pluginConfig:
  - name: NodeResourcesFit
    args: {scoringStrategy: {type: MostAllocated}}
`), 0o644))
	// On the one node there is, all pods run where they did.
	if out := c.must("reprise", "replay", "--scheduler-config", packed); !strings.Contains(out, " 0 on another node, 0 bound only then, 0 bound only now, 0 never") {
		t.Errorf("reprise replay --scheduler-config says\n%s", out)
	}
	testOtherScheduler(c, packed)
}

// testOtherScheduler starts the cluster again with another scheduler, whose
// decisions are replayed as its own.
func testOtherScheduler(c *cluster, config string) {
	c.stop()
	c.up = append(c.up, "--scheduler-config", config)
	c.start()
	c.apply(strings.ReplaceAll(web, "name: web", "name: packed"))
	c.kubectl("rollout", "status", "deployment/packed", "--timeout=2m")
	c.eventually("the log is at rest", c.atRest())
	if out := c.must("reprise", "events", "--filter", "pod.bound", "-o", "wide"); !strings.Contains(out, "most allocated") {
		c.t.Errorf("the scheduler does not heed its configuration:\n%s", out)
	}
	if out := c.must("reprise", "replay"); !strings.Contains(out, "no differences") {
		c.t.Errorf("reprise replay says\n%s", out)
	}
}
