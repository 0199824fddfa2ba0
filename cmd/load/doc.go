// Package load puts load on a cluster and says what it costs. It speaks to the
// cluster as any client does, through the Kubernetes API alone, and so can
// compare two that are made differently: the same pods, the same observer, the
// same clock, and CPU time and memory from the same files under /proc.
//
// A [Target] is a cluster that runs, with the ids of its processes. A [Scenario]
// says what is asked of it. [Run] asks for it and returns a [Result]:
//
//	all is quiet ─ Deployments are created ─ all pods are ready ─ all is deleted ─ all is gone ─ all is quiet
//	               └ CPU a pod up ───────────┘                  └ down ──────────┴ after that ┘
//
// What a cluster does not reach within the time it has is part of the result, and
// no error of Run: the steps count what was reached, and [Unreached] makes an error of it
// for those who want one.
package load
