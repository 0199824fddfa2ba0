// Package e2e drives the built binaries as people do: `reprise up`, unmodified
// kubectl and Helm, and client-go, with real containers in a network namespace
// of the test's own. It runs with `make e2e` (build tag e2e, root) and has no
// code that the program uses.
package e2e
