package seal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	kmsservice "k8s.io/kms/pkg/service"

	"github.com/reprise-run/reprise/events"
)

// clusterRecord is a cluster key as the vault keeps it for a KMS plugin: encrypted
// by the plugin, and so of no use without it.
type clusterRecord struct {
	ID          string            `json:"id"` // the cluster key's
	Plugin      string            `json:"plugin"`
	KeyID       string            `json:"keyId"`
	Annotations map[string][]byte `json:"annotations,omitempty"`
	Ciphertext  []byte            `json:"ciphertext"`
}

// keys has the plugin decrypt the cluster keys that it encrypted before. If none
// of them is by the key that the plugin uses now, there is a new one.
//
// The plugin is asked at the start and not for each object: its key wraps the
// cluster key, the cluster key those of the objects.
func (c *kmsConfig) keys(ctx context.Context, vault events.Vault) ([]*clusterKey, error) {
	// The connection ends with this context.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	plugin, err := kmsv2.NewGRPCService(ctx, c.endpoint, c.name, c.timeout)
	if err != nil {
		return nil, fmt.Errorf("KMS plugin %s: %w", c.name, err)
	}
	status, err := plugin.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("KMS plugin %s does not answer at %s: start it, and then this server: %w", c.name, c.endpoint, err)
	}
	if status.Healthz != "ok" {
		return nil, fmt.Errorf("KMS plugin %s at %s says that it is not well: %s", c.name, c.endpoint, status.Healthz)
	}
	var current *clusterKey
	var older []*clusterKey
	for kept, err := range vault.All(ctx) {
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(kept.Name, objectPrefix) {
			continue
		}
		rec, err := clusterOf(kept)
		if err != nil {
			return nil, err
		}
		if rec.Plugin != c.name {
			continue
		}
		secret, err := plugin.Decrypt(ctx, string(uuid.NewUUID()), &kmsservice.DecryptRequest{Ciphertext: rec.Ciphertext, KeyID: rec.KeyID, Annotations: rec.Annotations})
		if err != nil {
			return nil, fmt.Errorf("KMS plugin %s cannot decrypt the cluster key that it encrypted by its key %s: %w", c.name, rec.KeyID, err)
		}
		key, err := newClusterKey("kms-"+c.name, secret)
		if err != nil {
			return nil, err
		}
		if rec.KeyID == status.KeyID && current == nil {
			current = key
		} else {
			older = append(older, key)
		}
	}
	if current == nil {
		if current, err = c.create(ctx, plugin, vault); err != nil {
			return nil, err
		}
	}
	return append([]*clusterKey{current}, older...), nil
}

// create makes a cluster key and has the plugin encrypt it.
func (c *kmsConfig) create(ctx context.Context, plugin kmsservice.Service, vault events.Vault) (*clusterKey, error) {
	secret := newSecret()
	key, err := newClusterKey("kms-"+c.name, secret)
	if err != nil {
		return nil, err
	}
	encrypted, err := plugin.Encrypt(ctx, string(uuid.NewUUID()), secret)
	if err != nil {
		return nil, fmt.Errorf("KMS plugin %s cannot encrypt a cluster key: %w", c.name, err)
	}
	value, err := json.Marshal(clusterRecord{
		ID: key.id, Plugin: c.name, KeyID: encrypted.KeyID, Annotations: encrypted.Annotations, Ciphertext: encrypted.Ciphertext,
	})
	if err != nil {
		return nil, err
	}
	name := sha256.Sum256(value)
	return key, vault.Create(ctx, clusterPrefix+hex.EncodeToString(name[:8]), value)
}
