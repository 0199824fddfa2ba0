//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/reprise-run/reprise/agents/api/past"
)

const shop = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: till, namespace: shop, labels: {app: till}}
spec:
  replicas: 3
  selector: {matchLabels: {app: till}}
  template:
    metadata: {labels: {app: till}}
    spec: {containers: [{name: till, image: "reprise.run/demo:1"}]}
---
apiVersion: bakery.example.com/v1
kind: Loaf
metadata: {name: country, namespace: shop}
spec: {grams: 800, flour: rye}
`

// TestRewind looks back at a cluster from which nearly all has gone since.
func TestRewind(t *testing.T) {
	c := newCluster(t)
	c.apply(bakery)
	c.kubectl("wait", "--for=condition=Established", "crd/loaves.bakery.example.com", "--timeout=1m")
	c.apply(shop)
	c.kubectl("-n", "shop", "rollout", "status", "deployment/till", "--timeout=2m")
	then := c.moment("now").Sequence
	c.apply(strings.NewReplacer("grams:", "kilos:", "self.grams <= 2000", "self.kilos <= 2", "default: 500", "default: 1").Replace(bakery))
	c.kubectl("delete", "namespace", "shop", "--timeout=2m")

	for name, test := range map[string]func(*testing.T, *cluster, uint64){
		"what kubectl shows": rewindShows,
		"custom resources":   rewindCustom,
		"refusals":           rewindRefuses,
		"rights":             rewindRights,
		"a context":          rewindContext,
		"an informer":        rewindInformer,
		"points":             rewindPoints,
	} {
		t.Run(name, func(t *testing.T) { test(t, c.in(t), then) })
	}
}

// moment asks the server which moment a point is.
func (c *cluster) moment(point string) (m past.Moment) {
	c.t.Helper()
	if err := json.Unmarshal([]byte(c.kubectl("get", "--raw", past.Prefix+point)), &m); err != nil {
		c.t.Fatal(err)
	}
	return m
}

// rewind runs kubectl at a sequence.
func (c *cluster) rewind(sequence uint64, args ...string) (string, error) {
	return c.reprise(append([]string{"rewind", fmt.Sprintf("@%d", sequence), "--", "kubectl"}, args...)...)
}

func (c *cluster) rewound(sequence uint64, args ...string) string {
	c.t.Helper()
	out, err := c.rewind(sequence, args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// shows checks that a text has all these parts.
func (c *cluster) shows(text string, parts ...string) {
	c.t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			c.t.Errorf("it does not show %q:\n%s", part, text)
		}
	}
}

func rewindShows(t *testing.T, c *cluster, then uint64) {
	wide := c.rewound(then, "get", "pods", "-A", "-o", "wide")
	c.shows(wide, "NOMINATED NODE", "shop", "till-", "1/1", "Running")
	if n := strings.Count(wide, "\n"); n != 4 {
		t.Errorf("there are %d lines, not a heading and three pods:\n%s", n, wide)
	}
	c.shows(c.rewound(then, "-n", "shop", "describe", "deployment", "till"), "3 desired | 3 updated | 3 total | 3 available", "Events:", "<none>")
	c.shows(c.rewound(then, "-n", "shop", "describe", "pod", "-l", "app=till"), "Controlled By:", "ReplicaSet/till-", "Started")
	all := c.rewound(then, "-n", "shop", "get", "pods", "-o", "name")
	if chunks := c.rewound(then, "-n", "shop", "get", "pods", "-o", "name", "--chunk-size=1"); chunks != all {
		t.Errorf("in chunks:\n%s\nat once:\n%s", chunks, all)
	}
	if got := c.rewound(then, "get", "pods", "-A", "-l", "app=till", "--field-selector", "status.phase=Running", "-o", "name"); got != all {
		t.Errorf("by selectors:\n%s\nall:\n%s", got, all)
	}
	c.shows(c.rewound(then, "-n", "shop", "get", "pods", "-l", "app!=till"), "No resources found")
	c.shows(c.rewound(then, "get", "ns,deploy,rs,nodes", "-A"), "namespace/shop", "deployment.apps/till", "replicaset.apps/till-", "node/")
	if out, err := c.try("kubectl", "-n", "shop", "get", "deployment", "till"); err == nil {
		t.Errorf("it is still there:\n%s", out)
	}
}

func rewindCustom(t *testing.T, c *cluster, then uint64) {
	now := c.moment("now").Sequence
	c.shows(c.rewound(then, "explain", "loaf.spec"), "grams")
	c.shows(c.rewound(now, "explain", "loaf.spec"), "kilos")
	c.shows(c.rewound(then, "-n", "shop", "get", "loaf", "country", "-o", "yaml"), "grams: 800")
	c.shows(c.rewound(then, "-n", "shop", "get", "loaves"), "country")
	if _, err := c.rewind(1, "get", "loaves", "-A"); err == nil || !strings.Contains(err.Error(), `doesn't have a resource type "loaves"`) {
		t.Errorf("before there were loaves: %v", err)
	}
}

func rewindRefuses(t *testing.T, c *cluster, then uint64) {
	before := c.commands()
	sentence := fmt.Sprintf("this is the cluster as it was at sequence %d (", then)
	for _, args := range [][]string{
		{"-n", "shop", "delete", "deployment", "till"},
		{"-n", "shop", "scale", "deployment", "till", "--replicas=1"},
		{"create", "namespace", "other"},
		{"-n", "shop", "label", "deployment", "till", "a=b"},
	} {
		_, err := c.rewind(then, args...)
		if err == nil || !strings.Contains(err.Error(), sentence) || !strings.Contains(err.Error(), "the past cannot be changed") {
			t.Errorf("%q: %v", args, err)
		}
	}
	_, err := c.rewind(then, "-n", "shop", "logs", "deployment/till")
	if err == nil || !strings.Contains(err.Error(), "what its containers printed is not in the history") {
		t.Errorf("logs: %v", err)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the exit status is not kubectl's: %v", err)
	}
	if _, err := c.rewind(then, "-n", "shop", "get", "pod", "nobody"); err == nil || !strings.Contains(err.Error(), `pods "nobody" not found`) {
		t.Errorf("an unknown object: %v", err)
	}
	if after := c.commands(); after != before {
		t.Errorf("something was written.\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

// rewindRights gives a service account the right to read pods in one namespace.
func rewindRights(t *testing.T, c *cluster, then uint64) {
	c.kubectl("create", "serviceaccount", "clerk")
	file := filepath.Join(t.TempDir(), "kubeconfig")
	config := c.kubectl("config", "view", "--flatten", "-o", "json")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(c.kubectl("create", "token", "clerk"))
	c.kubectl("--kubeconfig", file, "config", "unset", "users.admin")
	c.kubectl("--kubeconfig", file, "config", "set-credentials", "admin", "--token="+token)
	read := func(args ...string) (string, error) {
		return c.reprise(append([]string{"rewind", "--kubeconfig", file, fmt.Sprintf("@%d", then), "--", "kubectl"}, args...)...)
	}
	if _, err := read("-n", "shop", "get", "pods"); err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("without rights: %v", err)
	}
	c.kubectl("create", "namespace", "shop")
	c.kubectl("-n", "shop", "create", "rolebinding", "clerk", "--clusterrole=view", "--serviceaccount=default:clerk")
	c.eventually("the clerk may read pods", func() error {
		out, err := read("-n", "shop", "get", "pods")
		if err == nil && !strings.Contains(out, "till-") {
			err = fmt.Errorf("they are not shown:\n%s", out)
		}
		return err
	})
	if _, err := read("get", "pods", "-A"); err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("in other namespaces: %v", err)
	}
	c.kubectl("delete", "namespace", "shop")
}

func rewindContext(t *testing.T, c *cluster, then uint64) {
	name := fmt.Sprintf("reprise@%d", then)
	out := c.must("reprise", "rewind", fmt.Sprint(then), "--serve")
	c.shows(out, name, "--context "+name, "reprise rewind --remove "+name)
	c.shows(c.kubectl("--context", name, "get", "pods", "-A"), "till-")
	c.shows(c.kubectl("auth", "can-i", "list", "pods", "--context", name), "yes")
	if current := strings.TrimSpace(c.kubectl("config", "current-context")); current != "reprise" {
		t.Errorf("the current context is now %q", current)
	}
	c.shows(c.must("reprise", "rewind", "--remove"), "Removed", name)
	if contexts := c.kubectl("config", "get-contexts", "-o", "name"); contexts != "reprise\n" {
		t.Errorf("contexts are left:\n%s", contexts)
	}
}

func rewindInformer(t *testing.T, c *cluster, then uint64) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	config.Host += past.Prefix + fmt.Sprintf("@%d", then)
	factory := informers.NewSharedInformerFactory(kubernetes.NewForConfigOrDie(config), 0)
	pods := factory.Core().V1().Pods().Lister()
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			t.Fatalf("the informer of %s has not synced", kind)
		}
	}
	found, err := pods.Pods("shop").List(labels.SelectorFromSet(labels.Set{"app": "till"}))
	if err != nil || len(found) != 3 {
		t.Errorf("the informer holds %d pods: %v", len(found), err)
	}
	w, err := kubernetes.NewForConfigOrDie(config).CoreV1().Pods("shop").Watch(ctx, metav1.ListOptions{ResourceVersion: fmt.Sprint(then)})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	select {
	case e, open := <-w.ResultChan():
		t.Errorf("a watch of the past said %v (open: %v)", e, open)
	case <-time.After(time.Second):
	}
}

func rewindPoints(t *testing.T, c *cluster, then uint64) {
	c.refused(c.command("reprise", "rewind"), "to which moment?", "reprise rewind -15m -- kubectl get pods")
	c.shows(c.must("reprise", "rewind", "--help"), "Usage:", "10:42", "-15m", "@812", "kubectl get pods")
	at := c.moment(fmt.Sprintf("@%d", then)).Time
	for _, point := range []string{at.Format(time.RFC3339Nano), at.Local().Add(time.Second).Format("2006-01-02 15:04:05"), "-1s", "now"} {
		c.shows(c.must("reprise", "rewind", point), " is sequence ", "reprise rewind "+point)
	}
	c.refused(c.command("reprise", "rewind", "2001-01-01", "--", "kubectl", "get", "pods"), "2001-01-01", "names no moment")
	c.refused(c.command("reprise", "rewind", "2001-01-01T00:00:00Z", "--", "kubectl", "get", "pods"), "before the log began", "the log goes from sequence 1")
	c.refused(c.command("reprise", "rewind", "-20d", "--", "kubectl", "get", "pods"), "before the log began")
	c.refused(c.command("reprise", "rewind", "2999-01-01T00:00:00Z"), "is in the future")
	c.refused(c.command("reprise", "rewind", "@999999"), "there is no event 999999 yet")
	c.refused(c.command("reprise", "rewind", "-1s", "--frobnicate"), "--frobnicate")
	c.refused(c.command("reprise", "rewind", "-1s", "--", "no-such-program"), "no-such-program")
	c.refused(c.command("reprise", "rewind", "--kubeconfig", "/nowhere", "-1s"), "/nowhere")
}
