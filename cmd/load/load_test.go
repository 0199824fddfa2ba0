package load

import (
	"math"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/reprise-run/reprise/agents/sim/hollow"
)

func TestParseScenario(t *testing.T) {
	for _, c := range []struct{ text, title, wrong string }{
		{text: "deploy", title: "2,000 pods on 200 nodes"},
		{text: "deploy:100000/5000", title: "100,000 pods on 5,000 nodes"},
		{text: "rolling", title: "rolling update of 5,000 pods on 250 nodes"},
		{text: "failure:40/20", title: "40 pods on 20 nodes, of which 2 are lost"},
		{text: "watchers", title: "200 pods on 200 nodes, 1,000 watchers"},
		{text: "failure:1/2", title: "1 pod on 2 nodes, of which 1 is lost"},
		{text: "deploy:1000000/16384", title: "1,000,000 pods on 16,384 nodes"},
		{text: "deploy:100", wrong: `"deploy:100": after the colon come two numbers of at least 1`},
		{text: "deploy:0/0", wrong: `"deploy:0/0": after`},
		{text: "deploy:5/0", wrong: `"deploy:5/0": after`},
		{text: "deploy:5/6/7", wrong: `"deploy:5/6/7": after`},
		{text: "deploy:1000001/5", wrong: "more than 1,000,000 pods"},
		{text: "deploy:99999999999999999999/5", wrong: `"deploy:99999999999999999999/5": more than 1,000,000 pods`},
		{text: "deploy:5/16385", wrong: "more than 16,384 nodes"},
		{text: "failure:5/1", wrong: "of 1 node 1 is lost"},
		{text: "burn:1/2", wrong: `"burn:1/2": there is none`},
	} {
		s, err := ParseScenario(c.text)
		switch {
		case c.wrong != "":
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s: %v", c.text, err)
			}
		case err != nil || s.Title() != c.title:
			t.Errorf("%s is %q: %v", c.text, s.Title(), err)
		}
	}
}

// What is changed in a scenario that was read may be too much too.
func TestCheck(t *testing.T) {
	if MaxNodes != hollow.MaxNodes {
		t.Errorf("scenarios have %d nodes, and processes of hollow nodes %d", MaxNodes, hollow.MaxNodes)
	}
	for _, c := range []struct {
		s     Scenario
		wrong string
	}{
		{Scenario{Kind: Deploy, Pods: 100_000, Nodes: 1000, PerDeployment: 1}, ""},
		{Scenario{Kind: Deploy, Pods: 100_001, Nodes: 1000, PerDeployment: 1}, "more than 100,000 Deployments"},
		{Scenario{Kind: Watchers, Pods: 1, Nodes: 1, PerDeployment: 1, Watchers: 1e9}, "clients watch"},
		{Scenario{Kind: Failure, Pods: 1, Nodes: 5, PerDeployment: 1, Lost: 5}, "of 5 nodes 5 are lost"},
		{Scenario{Kind: Failure, Pods: 1, Nodes: 5, PerDeployment: 1, Lost: 4}, ""},
	} {
		err := c.s.Check()
		if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%s: %v, want %q", c.s, err, c.wrong)
		}
	}
}

// Only a node that was ready when some were cut off can be lost by that.
func TestLosses(t *testing.T) {
	l, now := newLosses(), time.Now()
	l.see("old", false, now) // from an earlier agent
	l.see("a", true, now)
	l.see("b", true, now)
	if err := l.begin(2); err == nil || !strings.Contains(err.Error(), "2 nodes are ready and 2 to be lost") {
		t.Errorf("none would be left: %v", err)
	}
	l.see("b", false, now)
	l.see("b", true, now)
	if err := l.begin(1); err != nil {
		t.Error(err)
	}
	l.see("old", false, now.Add(1))
	l.see("late", false, now.Add(1))
	l.see("a", true, now.Add(1))
	if lost := l.have(); len(lost) > 0 {
		t.Errorf("lost are %v before any is", lost)
	}
	l.see("a", false, now.Add(2))
	l.see("a", false, now.Add(3))
	if lost := l.have(); len(lost) != 1 || lost["a"] != now.Add(2) {
		t.Errorf("lost are %v", lost)
	}
}

// What was not measured is not printed.
func TestPrint(t *testing.T) {
	s, _ := ParseScenario("deploy:10/2")
	for _, c := range []struct {
		measured Measured
		has, not []string
	}{
		{Measured{}, []string{"a pod made 3.0 events; the fullest node has 1 pod\n"}, []string{"CPU", "resident", "disk"}},
		{Measured{Nodes: true}, []string{"CPU a pod up:   0.00 ms of nodes, "}, []string{"control plane", "resident", "disk"}},
		{Measured{Control: true, Nodes: true, Data: true}, []string{"ms of control plane", "ms of nodes", "resident", "kB on disk"}, nil},
	} {
		var out strings.Builder
		if err := (&Result{Scenario: s, Measured: c.measured, Events: 3, Fullest: 1}).Print(&out); err != nil {
			t.Fatal(err)
		}
		for _, want := range c.has {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%+v: %q is not in\n%s", c.measured, want, &out)
			}
		}
		for _, no := range c.not {
			if strings.Contains(out.String(), no) {
				t.Errorf("%+v: %q is in\n%s", c.measured, no, &out)
			}
		}
	}
}

// What is missing makes one line, whatever it is.
func TestUnreached(t *testing.T) {
	s, _ := ParseScenario("deploy:10/2")
	if err := Unreached([]*Result{{Scenario: s}}); err != nil {
		t.Error(err)
	}
	err := Unreached([]*Result{{Scenario: s, Side: "a", Missing: "1 of 2"}, {Scenario: s}, {Scenario: s, Side: "b", Missing: "x\ny"}})
	if err == nil || err.Error() != "not reached: deploy:10/2 on a: 1 of 2; deploy:10/2 on b: x; y" {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		o     Options
		wrong string
	}{
		{Options{Within: 1}, ""},
		{Options{}, "--within"},
		{Options{Within: 1, Idle: -1}, "--idle"},
		{Options{Within: 1, Probes: -1}, "--probes"},
		{Options{Within: 1, Probes: math.Inf(1)}, "--probes"},
	} {
		if err := c.o.Check(); (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.wrong)
		}
	}
}

// The pods of a scenario are as many as it says, whatever the size of Deployments.
func TestDeployments(t *testing.T) {
	s := Scenario{Kind: Deploy, Pods: 7650, PerDeployment: 100}
	pods, spread := 0, namespaces(deployments(s))
	for _, d := range deployments(s) {
		pods += int(*d.Spec.Replicas)
	}
	if pods != s.Pods || len(spread) != 4 {
		t.Errorf("%d pods in %v", pods, spread)
	}
}

func pod(uid, node string, ready bool) *sighting {
	return &sighting{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), Labels: map[string]string{appLabel: "a"}}, node: node, ready: ready}
}

// The observer counts each step of each pod once, in whatever order and however
// often it is told, and after forget counts of older pods the end alone.
func TestObserverCountsOnce(t *testing.T) {
	o := newObserver()
	check := func(what string, want tally) {
		t.Helper()
		if o.tally != want {
			t.Errorf("%s: %+v, want %+v", what, o.tally, want)
		}
	}
	_ = o.Replace([]any{pod("1", "", false)}, "")
	_ = o.Add(pod("2", "n1", true))
	_ = o.Update(pod("1", "n1", false))
	_ = o.Update(pod("1", "n1", false))
	_ = o.Update(pod("2", "n1", false)) // one that becomes unready has been ready
	_ = o.Update(pod("2", "n1", true))
	check("two pods, one ready", tally{created: 2, bound: 2, running: 1})
	if n := o.fullest(); n != 2 {
		t.Errorf("the fullest node has %d pods", n)
	}
	if old := o.forget(); len(old) != 2 {
		t.Errorf("%d pods live", len(old))
	}
	_ = o.Update(pod("1", "n1", true))
	_ = o.Add(pod("3", "n2", true))
	_ = o.Delete(pod("1", "n1", true))
	_ = o.Delete(pod("1", "n1", true))
	check("one of two replaced", tally{created: 1, bound: 1, running: 1, gone: 1})
	_ = o.Replace([]any{pod("3", "n2", true), pod("4", "", false)}, "")
	check("the other went unseen, one came", tally{created: 2, bound: 1, running: 1, gone: 2})
}

func TestLatency(t *testing.T) {
	var took []time.Duration
	for i := range 1000 {
		took = append(took, time.Duration(1000-i)*time.Millisecond)
	}
	if l := latencyOf(took); l.P50 < 499 || l.P50 > 502 || l.P99 < 989 || l.P99 > 991 || l.Max != 1000 {
		t.Errorf("%+v", l)
	}
}

// What is read of this process from outside agrees with what the kernel tells it directly.
func TestUsage(t *testing.T) {
	for began := time.Now(); ownCPU() < 200*time.Millisecond && time.Since(began) < 10*time.Second; {
	}
	self := Processes{"self": os.Getpid()}
	cpu, err := sum(self, cpuOf)
	if own := ownCPU(); err != nil || cpu < own/2 || cpu > own+own/2 {
		t.Errorf("%v from outside, %v by getrusage: %v", cpu, own, err)
	}
	held := (&memory{processes: self}).look()
	if held.now < 1<<20 || held.now > 1<<34 || held.peak != held.now {
		t.Errorf("%d bytes are resident, at most %d", held.now, held.peak)
	}
	if held.anonymous < 1<<20 || held.anonymous > 1<<34 {
		t.Errorf("%d bytes of that are no file's", held.anonymous)
	}
	if _, err := sum(Processes{"gone": 1 << 30}, cpuOf); err == nil || !strings.Contains(err.Error(), "gone (process") {
		t.Errorf("a process that does not run: %v", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/a", make([]byte, 10000), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := stored([]string{dir}); err != nil || n < 10000 || n > 20000 {
		t.Errorf("%d bytes are stored: %v", n, err)
	}
}

func TestCompare(t *testing.T) {
	s, _ := ParseScenario("deploy:10/2")
	one := func(side string, cpu float64) *Result {
		return &Result{Scenario: s, Side: side, Up: Cost{Control: cpu}, Steps: []Step{{Name: "running", Count: 10, PerSecond: 50}}}
	}
	var out strings.Builder
	results := []*Result{one("a", 1), one("b", 10), one("a", 3), one("b", 10), one("a", 2)}
	if err := Compare(&out, results, "a", "b"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10 pods on 2 nodes (medians of 3 and 2)", "CPU ms a pod, up  2.00 (1.00 to 3.00)  10.0 (10.0 to 10.0)    0.2"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}
