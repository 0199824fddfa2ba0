package main

import (
	"strings"
	"testing"
	"time"

	"github.com/reprise-run/reprise/cmd/load"
)

// What cannot be carried out to the end is refused before anything is asked of the cluster.
func TestLoadRefuses(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(*loadOptions)
		wrong  string
	}{
		{"the usual", func(*loadOptions) {}, ""},
		{"a failure", func(o *loadOptions) {
			o.scenarios, o.nodes, o.lose = []string{"failure:100/5"}, map[string]int{"agent": 7}, "agent"
		}, ""},
		{"a failure of nothing", func(o *loadOptions) { o.scenarios = []string{"failure:100/5"} },
			`scenario "failure:100/5": it kills a process that runs nodes, and none was named: give --nodes NAME=PID and --lose NAME (--nodes gives none)`},
		{"a failure of another", func(o *loadOptions) {
			o.scenarios, o.nodes, o.lose = []string{"failure:100/5"}, map[string]int{"b": 8, "a": 7}, "agent"
		}, "--lose agent is none of the names in --nodes: give --nodes NAME=PID and --lose NAME (--nodes gives a, b)"},
		{"two failures", func(o *loadOptions) {
			o.scenarios, o.nodes, o.lose = []string{"failure", "failure"}, map[string]int{"agent": 7}, "agent"
		}, "failure comes 2 times"},
		{"all lost", func(o *loadOptions) {
			o.scenarios, o.nodes, o.lose, o.lost = []string{"failure:100/5"}, map[string]int{"agent": 7}, "agent", 5
		}, "of 5 nodes 5 are lost"},
		{"--lost", func(o *loadOptions) { o.lost = -1 }, "--lost -1"},
		{"--probes", func(o *loadOptions) { o.Probes = -1 }, "--probes -1"},
		{"--idle", func(o *loadOptions) { o.Idle = -time.Second }, "--idle -1s"},
		{"a whole group of processes", func(o *loadOptions) { o.nodes = map[string]int{"agent": -1} }, "--nodes agent=-1"},
		{"the second scenario", func(o *loadOptions) { o.scenarios = []string{"deploy", "deploy:0/0"} }, `"deploy:0/0"`},
	} {
		o := loadOptions{scenarios: []string{"deploy"}, perDeployment: 100, watchers: 1000, output: "text", Options: load.Options{Within: time.Minute}}
		c.change(&o)
		_, err := o.all()
		if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%s: %v, want %q", c.what, err, c.wrong)
		}
	}
}
