// Package pki makes the keys and certificates that an API server needs, at its
// first start, and keeps them usable at every later one: what is missing is made,
// what expires soon or bears the wrong names is made again, and the authorities
// and the key that signs tokens stay as they are.
//
// Only agents/api uses it. It touches no file outside of its directory and never
// replaces an authority: whoever wants a new one deletes the file.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"

	"github.com/reprise-run/reprise/events/durable"
)

// The names of files in a Dir. A pair has a certificate in <name>.crt and its
// key in <name>.key.
const (
	clientCA        = "ca"                // signs clients and servers of the cluster
	frontProxyCA    = "front-proxy-ca"    // signs the aggregator, and nobody else
	serving         = "apiserver"         // the API server, to its clients
	frontProxy      = "front-proxy"       // the API server, to aggregated ones
	kubelet         = "apiserver-kubelet" // the API server, to nodes
	serviceAccounts = "service-accounts"  // signs tokens; a key alone
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 365 * 24 * time.Hour
	// renewBefore is how long before its end a certificate is made again.
	renewBefore = 60 * 24 * time.Hour
)

// Dir is a directory with everything in it.
type Dir struct {
	path string
	now  time.Time
	ca   authority
}

// authority can sign.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// Ensure makes what is missing or out of date in the directory. names are the
// host names and addresses under which clients reach the server.
func Ensure(path string, names []string, now time.Time) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory for keys and certificates: %w", err)
	}
	d := &Dir{path: path, now: now}
	var err error
	if d.ca, err = d.authority(clientCA, "reprise"); err != nil {
		return nil, err
	}
	proxies, err := d.authority(frontProxyCA, "reprise-front-proxy")
	if err != nil {
		return nil, err
	}
	leaves := []struct {
		name   string
		signer authority
		want   request
	}{
		{serving, d.ca, request{subject: pkix.Name{CommonName: "kube-apiserver"}, names: names, usage: x509.ExtKeyUsageServerAuth}},
		{kubelet, d.ca, request{subject: pkix.Name{CommonName: "kube-apiserver-kubelet-client"}, usage: x509.ExtKeyUsageClientAuth}},
		{frontProxy, proxies, request{subject: pkix.Name{CommonName: "front-proxy-client"}, usage: x509.ExtKeyUsageClientAuth}},
	}
	for _, l := range leaves {
		if err := d.leaf(l.name, l.signer, l.want); err != nil {
			return nil, err
		}
	}
	if _, err := d.key(serviceAccounts); err != nil {
		return nil, err
	}
	return d, nil
}

// ClientCA is the file with the certificate of the authority for clients.
func (d *Dir) ClientCA() string { return d.file(clientCA, ".crt") }

// FrontProxyCA is the file with the certificate of the aggregator's authority.
func (d *Dir) FrontProxyCA() string { return d.file(frontProxyCA, ".crt") }

// Serving returns the files of the server's certificate and key.
func (d *Dir) Serving() (cert, key string) { return d.file(serving, ".crt"), d.file(serving, ".key") }

// FrontProxy returns the files of the aggregator's certificate and key.
func (d *Dir) FrontProxy() (cert, key string) {
	return d.file(frontProxy, ".crt"), d.file(frontProxy, ".key")
}

// Kubelet returns the files of the certificate that the server shows to nodes,
// and its key.
func (d *Dir) Kubelet() (cert, key string) { return d.file(kubelet, ".crt"), d.file(kubelet, ".key") }

// ServiceAccountKey is the file with the key that signs tokens.
func (d *Dir) ServiceAccountKey() string { return d.file(serviceAccounts, ".key") }

// CA returns the certificate of the authority for clients, in PEM.
func (d *Dir) CA() []byte { return encode(d.ca.cert) }

// Client returns a new certificate for a client of the API, and its key, in PEM.
func (d *Dir) Client(user string, groups ...string) (certPEM, keyPEM []byte, err error) {
	key, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	c, err := d.sign(d.ca, key, request{
		subject: pkix.Name{CommonName: user, Organization: groups}, usage: x509.ExtKeyUsageClientAuth,
	})
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err = keyutil.MarshalPrivateKeyToPEM(key)
	return encode(c), keyPEM, err
}

func (d *Dir) file(name, suffix string) string { return filepath.Join(d.path, name+suffix) }

// authority reads an authority or makes it.
func (d *Dir) authority(name, commonName string) (authority, error) {
	key, err := d.key(name)
	if err != nil {
		return authority{}, err
	}
	file := d.file(name, ".crt")
	certs, err := cert.CertsFromFile(file)
	if err == nil {
		if !public(certs[0]).Equal(key.Public()) {
			return authority{}, fmt.Errorf("%s does not belong to the key beside it; delete both to start a new authority", file)
		}
		return authority{certs[0], key}, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return authority{}, fmt.Errorf("the authority's certificate cannot be read: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return authority{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: commonName},
		NotBefore: d.now.Add(-time.Hour), NotAfter: d.now.Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		IsCA:     true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return authority{}, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, err
	}
	return authority{c, key}, d.write(name+".crt", encode(c), 0o644)
}

// request says what a certificate is for.
type request struct {
	subject pkix.Name
	names   []string
	usage   x509.ExtKeyUsage
}

// leaf makes a pair unless a good one is there.
func (d *Dir) leaf(name string, signer authority, want request) error {
	key, err := d.key(name)
	if err != nil {
		return err
	}
	if certs, err := cert.CertsFromFile(d.file(name, ".crt")); err == nil && d.good(certs[0], key, signer, want) {
		return nil
	}
	c, err := d.sign(signer, key, want)
	if err != nil {
		return err
	}
	return d.write(name+".crt", encode(c), 0o644)
}

func (d *Dir) good(c *x509.Certificate, key crypto.Signer, signer authority, want request) bool {
	covers := func(name string) bool { return c.VerifyHostname(name) == nil }
	missing := slices.ContainsFunc(want.names, func(n string) bool { return !covers(n) })
	return !missing && public(c).Equal(key.Public()) && c.CheckSignatureFrom(signer.cert) == nil &&
		d.now.After(c.NotBefore) && d.now.Before(c.NotAfter.Add(-renewBefore))
}

func (d *Dir) sign(signer authority, key crypto.Signer, want request) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: want.subject,
		NotBefore: d.now.Add(-time.Hour), NotAfter: d.now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{want.usage},
		BasicConstraintsValid: true,
	}
	for _, n := range want.names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer.cert, key.Public(), signer.key)
	if err != nil {
		return nil, fmt.Errorf("cannot sign a certificate for %s: %w", want.subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

// key reads a private key or makes it.
func (d *Dir) key(name string) (crypto.Signer, error) {
	file := d.file(name, ".key")
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		key, err := keyutil.PrivateKeyFromFile(file)
		if err != nil {
			return nil, fmt.Errorf("the key cannot be read: %w", err)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("%s holds a key that cannot sign", file)
		}
		return signer, nil
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	pem, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return nil, err
	}
	return key, d.write(name+".key", pem, 0o600)
}

func (d *Dir) write(name string, data []byte, mode os.FileMode) error {
	if err := durable.Replace(filepath.Join(d.path, name), data, mode); err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	return nil
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
}

// public is the certificate's key, comparable.
func public(c *x509.Certificate) interface{ Equal(crypto.PublicKey) bool } {
	k, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return never{}
	}
	return k
}

// never is a key of a kind that equals no other.
type never struct{}

func (never) Equal(crypto.PublicKey) bool { return false }

func encode(c *x509.Certificate) []byte {
	pem, err := cert.EncodeCertificates(c)
	if err != nil {
		panic(fmt.Sprintf("a certificate cannot be encoded: %v", err))
	}
	return pem
}
