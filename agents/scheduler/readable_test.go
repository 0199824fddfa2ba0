package scheduler

import (
	"strings"
	"testing"
)

func TestReadable(t *testing.T) {
	for note, want := range map[string]string{
		`{"best":[{"affinity":0,"balancedAllocation":99,"images":0,"leastAllocated":88,"node":"n1","taints":100,"total":487},{"affinity":7,"balancedAllocation":0,"images":3,"leastAllocated":0,"node":"n2","podAffinity":1,"podTopologySpread":2,"taints":0,"total":20}],"feasible":3,"nodes":5,"refused":{"node(s) had untolerated taint(s)":1,"Insufficient cpu":1},"trigger":12}`: `
n1 was the best of 3 nodes that would take it, among 5
  n1 487: least allocated 88, balanced 99, taints 100
  n2 20: images 3, node affinity 7, pod affinity 1, spread 2
refused by: 1 Insufficient cpu, 1 node(s) had untolerated taint(s)
looked at again upon event 12`,
		`{"feasible":0,"nodes":1,"refused":{"Insufficient cpu":1}}`: `
none of 1 node would take it
refused by: 1 Insufficient cpu`,
		`{"best":[{"node":"n1","total":0}],"feasible":1,"nodes":1}`: `
n1 was the best of 1 node that would take it, among 1
  n1 0`,
		`"a probe failed"`: "no",
		`{}`:               "no",
	} {
		lines, ok := Readable([]byte(note))
		got := "no"
		if ok {
			got = "\n" + strings.Join(lines, "\n")
		}
		if got != want {
			t.Errorf("%s reads as %s", note, got)
		}
	}
}
