package api

import (
	"net"
	"slices"
	"testing"
)

// The kubeconfig names the address at which the server listens, so the server's
// certificate must too.
func TestServerNamesCoverTheListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if names := serverNames(Options{Listener: l}, "10.96.0.1"); !slices.Contains(names, "127.0.0.2") {
		t.Errorf("the certificate is for %v", names)
	}
}
