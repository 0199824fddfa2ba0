package main

import (
	"fmt"
	"os"
	"path/filepath"
)

const (
	defaultDataDir = "/var/lib/reprise"
	defaultRunDir  = "/run/reprise"
	defaultNATS    = "127.0.0.1:4222"
)

// environment is where a command finds things: the flags common to all of them
// and the paths that follow from those.
type environment struct {
	*Main
	DataDir string
	RunDir  string
	NATS    string
}

// Kubeconfig is the file with which a person is admin of the cluster.
func (e *environment) Kubeconfig() string { return filepath.Join(e.DataDir, "admin.kubeconfig") }

// LogDir holds the JetStream log, the only truth.
func (e *environment) LogDir() string { return filepath.Join(e.DataDir, "log") }

// ProjectionDir holds the durable projection, which can be rebuilt.
func (e *environment) ProjectionDir() string { return filepath.Join(e.DataDir, "projection") }

// APIDir holds the API server's keys and certificates.
func (e *environment) APIDir() string { return filepath.Join(e.DataDir, "api") }

// SealDir holds the cluster key, unless the operator keeps it elsewhere.
func (e *environment) SealDir() string { return filepath.Join(e.DataDir, "seal") }

// NodeDir holds what one node keeps: containerd's images, volumes, outbox.
func (e *environment) NodeDir(node string) string { return filepath.Join(e.DataDir, "nodes", node) }

// NodeRunDir holds one node's sockets.
func (e *environment) NodeRunDir(node string) string { return filepath.Join(e.RunDir, node) }

// BinDir holds the tools that a node runs: beside our own binary, where the
// build puts them.
func (e *environment) BinDir() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot tell where this program lies, and its tools lie beside it: %w", err)
	}
	return filepath.Dir(self), nil
}
