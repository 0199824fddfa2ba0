package main

import (
	"strings"
	"testing"
)

// Hollow nodes are as many and as large as their addresses and sums allow.
func TestAgentRefuses(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(*agentOptions)
		wrong  string
	}{
		{"the usual", func(*agentOptions) {}, ""},
		{"the most", func(o *agentOptions) { o.hollow, o.cpus, o.memory, o.pods = 16384, 1_000_000, 1<<18, 254 }, ""},
		{"no number", func(o *agentOptions) { o.hollow = 0 }, "say how many nodes"},
		{"a negative number", func(o *agentOptions) { o.hollow = -1 }, "--hollow -1: "},
		{"too many", func(o *agentOptions) { o.hollow = 16385 }, "more than 16384 nodes"},
		{"processors", func(o *agentOptions) { o.cpus = 1_000_001 }, "--node-cpus 1000001: "},
		{"memory", func(o *agentOptions) { o.memory = 99999999999 }, "more than 262144 GiB"},
		{"pods", func(o *agentOptions) { o.pods = 255 }, "more than 254 pods"},
	} {
		o := agentOptions{hollow: 1, prefix: "hollow-", cpus: 32, memory: 256, pods: 110}
		c.change(&o)
		err := o.check()
		if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%s: %v, want %q", c.what, err, c.wrong)
		}
	}
}
