package seal

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/reprise-run/reprise/events"
)

// clusterKey wraps the keys of objects.
type clusterKey struct {
	// id names it in what it wraps: what its provider calls it, and a fingerprint
	// by which a key of the same name that is another is noticed.
	id   string
	aead cipher.AEAD
}

func newClusterKey(name string, secret []byte) (*clusterKey, error) {
	print, err := hkdf.Key(sha256.New, secret, nil, "reprise cluster key v1 fingerprint", 8)
	if err != nil {
		return nil, err
	}
	wrapping, err := hkdf.Key(sha256.New, secret, nil, "reprise cluster key v1 wrapping", keySize)
	if err != nil {
		return nil, err
	}
	b, err := aes.NewCipher(wrapping)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(b)
	if err != nil {
		return nil, err
	}
	return &clusterKey{id: name + "/" + hex.EncodeToString(print), aead: aead}, nil
}

// record is what the vault keeps for an object.
type record struct {
	Object ref    `json:"object"`
	UID    string `json:"uid"`
	By     string `json:"by"` // the cluster key's id
	Key    []byte `json:"key"`
}

type ref struct {
	Group     string `json:"group,omitempty"`
	Resource  string `json:"resource"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

func (k *clusterKey) wrap(r events.Ref, uid string, secret []byte) ([]byte, error) {
	return json.Marshal(record{Object: ref(r), UID: uid, By: k.id, Key: k.aead.Seal(nil, nil, secret, bind(r, uid))})
}

// ring is the cluster keys that are at hand.
type ring struct {
	keys []*clusterKey
	// groups are the resources to seal, with the key to wrap their objects' by.
	groups []group
}

type group struct {
	patterns []pattern
	first    *clusterKey
}

// errNoClusterKey says that a key was wrapped by one that is not at hand.
var errNoClusterKey = errors.New("the cluster key is missing")

func (r *ring) unwrap(rec record) ([]byte, error) {
	for _, k := range r.keys {
		if k.id != rec.By {
			continue
		}
		secret, err := k.aead.Open(nil, nil, rec.Key, bind(events.Ref(rec.Object), rec.UID))
		if err != nil || len(secret) != keySize {
			return nil, fmt.Errorf("the key of %s in the vault was altered", events.Ref(rec.Object))
		}
		return secret, nil
	}
	return nil, fmt.Errorf("the key of %s was wrapped by cluster key %s: %w", events.Ref(rec.Object), rec.By, errNoClusterKey)
}

// primary is the cluster key for an object's key, nil if the object is not to be
// sealed.
func (r *ring) primary(o events.Ref) *clusterKey {
	for _, g := range r.groups {
		if slices.ContainsFunc(g.patterns, func(p pattern) bool { return p.matches(o.Group, o.Resource) }) {
			return g.first
		}
	}
	return nil
}

// wrapper is the cluster key to wrap an object's key by. The key of what is no
// longer to be sealed still opens its past, and must not keep an old cluster key
// from being given up.
func (r *ring) wrapper(o events.Ref) *clusterKey {
	return cmp.Or(r.primary(o), r.groups[0].first)
}

// has says whether a cluster key is at hand.
func (r *ring) has(id string) bool {
	return slices.ContainsFunc(r.keys, func(k *clusterKey) bool { return k.id == id })
}

// newSecret draws a key.
func newSecret() []byte {
	secret := make([]byte, keySize)
	rand.Read(secret) // It never fails.
	return secret
}
