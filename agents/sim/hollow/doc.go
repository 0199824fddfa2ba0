// Package hollow is a node's machine without a machine: a container runtime (CRI)
// whose containers are a few hundred bytes of memory, and a disk that keeps
// nothing. The node agent runs on it as on containerd, so that thousands of nodes
// fit in one process, and what they do to the servers is what real ones would do.
//
// Runtimes of one process share a Timeline: nothing waits in a goroutine of its own
// but what a caller asked for, and nothing polls. How long things take and what
// fails is said by a Profile and drawn from a seed, by what happens and not by when:
// the third attempt at a container ends the same way in every run.
package hollow
