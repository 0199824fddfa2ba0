package pki

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/util/cert"
)

var now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func ensure(t *testing.T, path string, names []string, at time.Time) *Dir {
	t.Helper()
	d, err := Ensure(path, names, at)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func read(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	certs, err := cert.CertsFromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return certs[0]
}

func TestEnsure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pki")
	d := ensure(t, path, []string{"localhost", "10.43.0.1"}, now)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(d.CA())
	certFile, keyFile := d.Serving()
	if _, err := tls.LoadX509KeyPair(certFile, keyFile); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"localhost", "10.43.0.1"} {
		if _, err := read(t, certFile).Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: now}); err != nil {
			t.Error(err)
		}
	}
	proxy, _ := d.FrontProxy()
	if _, err := read(t, proxy).Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
		t.Error("the authority for clients signs for the front proxy too: any client could pose as it")
	}
	client, _, err := d.Client("admin", "system:masters")
	if err != nil {
		t.Fatal(err)
	}
	certs, err := cert.ParseCertsPEM(client)
	if err != nil {
		t.Fatal(err)
	}
	if s := certs[0].Subject; s.CommonName != "admin" || s.Organization[0] != "system:masters" {
		t.Errorf("the client is %v", s)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(e.Name()) == ".key" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %s", e.Name(), info.Mode())
		}
	}
}

func TestEnsureAgain(t *testing.T) {
	path := t.TempDir()
	names := []string{"localhost"}
	d := ensure(t, path, names, now)
	file, _ := d.Serving()
	ca, first := string(d.CA()), read(t, file)
	same := func(at time.Time, names ...string) bool {
		d := ensure(t, path, names, at)
		if string(d.CA()) != ca {
			t.Error("the authority is another one")
		}
		return read(t, file).Equal(first)
	}
	if !same(now.Add(24*time.Hour), "localhost") {
		t.Error("a good certificate was made again")
	}
	if same(now.Add(24*time.Hour), "localhost", "10.0.0.1") {
		t.Error("a certificate without a name that is wanted was kept")
	}
	first = read(t, file)
	if same(now.Add(leafLife-renewBefore+48*time.Hour), "localhost", "10.0.0.1") {
		t.Error("a certificate that expires soon was kept")
	}
}

func TestEnsureKeepsWhatItCannotRead(t *testing.T) {
	path := t.TempDir()
	d := ensure(t, path, nil, now)
	if err := os.WriteFile(d.ClientCA(), []byte("broken"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(path, nil, now); err == nil {
		t.Error("a broken authority was replaced in silence")
	}
}
