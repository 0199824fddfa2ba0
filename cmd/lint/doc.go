// Package lint holds the rules of this repository as tests: which package may
// import which, what the pure packages may not touch, how long files and
// functions may be, and that every package says what it is for. It has no code
// of its own; `go test ./cmd/lint` runs it.
package lint
