package seal

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/durable"
)

// Config is what to seal, and by which cluster keys: an encryption configuration
// of kube-apiserver, as read from its file.
type Config struct {
	groups []configGroup
}

type configGroup struct {
	patterns  []pattern
	providers []provider
}

// provider is where a cluster key comes from: a secret in the file, or a plugin.
type provider struct {
	name   string
	secret []byte
	kms    *kmsConfig
}

type kmsConfig struct {
	name, endpoint string
	timeout        time.Duration
}

var codecs = func() serializer.CodecFactory {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict)
}()

// ReadConfig reads an encryption configuration in the format of kube-apiserver.
// The keys of the providers aesgcm, aescbc and secretbox are taken as cluster
// keys, and a kms provider of version 2 as what keeps one; how values are
// encrypted does not depend on the provider.
func ReadConfig(file string) (Config, error) {
	info, err := os.Stat(file)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("others than its owner may read it: chmod 600 %s", file)
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return Config{}, fmt.Errorf("cannot read the encryption configuration %s: %w", file, err)
	}
	c, err := parseConfig(text)
	if err != nil {
		return Config{}, fmt.Errorf("the encryption configuration %s: %w", file, err)
	}
	return c, nil
}

func parseConfig(text []byte) (c Config, err error) {
	obj, _, err := codecs.UniversalDecoder().Decode(text, nil, nil)
	if err != nil {
		// The decoder's message repeats the text, keys included.
		return c, errors.New("it is no EncryptionConfiguration of apiserver.config.k8s.io/v1: see docs/secrets.md for an example")
	}
	config, ok := obj.(*apiserver.EncryptionConfiguration)
	if !ok {
		return c, errors.New("its kind must be EncryptionConfiguration")
	}
	if err := validation.ValidateEncryptionConfiguration(config, false).ToAggregate(); err != nil {
		return c, err
	}
	secrets := false
	for i, r := range config.Resources {
		g := configGroup{}
		for _, text := range r.Resources {
			p, err := parsePattern(text)
			if err != nil {
				return c, fmt.Errorf("resources[%d]: %w", i, err)
			}
			g.patterns = append(g.patterns, p)
			secrets = secrets || p.matches("", "secrets")
		}
		if g.providers, err = providersOf(r.Providers); err != nil {
			return c, fmt.Errorf("resources[%d]: %w", i, err)
		}
		c.groups = append(c.groups, g)
	}
	if !secrets {
		return c, errors.New("it does not list secrets, which are always encrypted: add them to resources")
	}
	return c, nil
}

func providersOf(list []apiserver.ProviderConfiguration) (out []provider, err error) {
	for i, p := range list {
		var keys []apiserver.Key
		kind := ""
		switch {
		case p.AESGCM != nil:
			kind, keys = "aesgcm", p.AESGCM.Keys
		case p.AESCBC != nil:
			kind, keys = "aescbc", p.AESCBC.Keys
		case p.Secretbox != nil:
			kind, keys = "secretbox", p.Secretbox.Keys
		case p.KMS != nil && p.KMS.APIVersion != "v2":
			return nil, fmt.Errorf("kms provider %s has apiVersion %s; only v2 is supported", p.KMS.Name, p.KMS.APIVersion)
		case p.KMS != nil:
			timeout := 3 * time.Second
			if p.KMS.Timeout != nil {
				timeout = p.KMS.Timeout.Duration
			}
			out = append(out, provider{name: "kms-" + p.KMS.Name, kms: &kmsConfig{name: p.KMS.Name, endpoint: p.KMS.Endpoint, timeout: timeout}})
		case i == 0:
			return nil, errors.New("the first provider is identity, which leaves values in the clear for ever: list one that encrypts first")
		}
		for _, key := range keys {
			secret, err := base64.StdEncoding.DecodeString(key.Secret)
			if err != nil || len(secret) < 16 {
				return nil, fmt.Errorf("the secret of key %s must be base64 of 16 bytes or more", key.Name)
			}
			out = append(out, provider{name: kind + "-" + key.Name, secret: secret})
		}
	}
	return out, nil
}

// ring fetches the cluster keys.
func (c Config) ring(ctx context.Context, vault events.Vault) (*ring, error) {
	r := &ring{}
	// A provider that several groups share is asked once. Its name does not do: two
	// keys may have the same.
	firsts := map[string]*clusterKey{}
	for _, g := range c.groups {
		for i, p := range g.providers {
			id := p.name + "\x00" + string(p.secret)
			first, asked := firsts[id]
			if !asked {
				keys, err := p.keys(ctx, vault)
				if err != nil {
					return nil, err
				}
				r.keys = append(r.keys, keys...)
				first = keys[0]
				firsts[id] = first
			}
			if i == 0 {
				r.groups = append(r.groups, group{patterns: g.patterns, first: first})
			}
		}
	}
	return r, nil
}

// keys are the cluster keys that a provider has, the one to use now first.
func (p provider) keys(ctx context.Context, vault events.Vault) ([]*clusterKey, error) {
	if p.kms != nil {
		return p.kms.keys(ctx, vault)
	}
	key, err := newClusterKey(p.name, p.secret)
	return []*clusterKey{key}, err
}

// EnsureConfig makes a file with a cluster key of its own if there is none, and if
// none can have been lost.
func EnsureConfig(ctx context.Context, file string, vault events.Vault, now time.Time) error {
	if _, err := os.Stat(file); err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for kept, err := range vault.All(ctx) {
		if err != nil {
			return err
		}
		if rec, ok, err := recordOf(kept); err != nil || ok {
			return errors.Join(err, fmt.Errorf("the cluster key %s is gone, which %s and others are encrypted by: put it back, or name with --encryption-config the file that has cluster key %s; nothing was changed: %w",
				file, events.Ref(rec.Object), rec.By, errNoClusterKey))
		}
	}
	return writeConfig(file, []apiserver.Key{newKey(now)})
}

// RotateFile rotates to a new key in a file that EnsureConfig has made: rotate is
// called while the file has both, and afterwards the old ones are taken out of it.
func RotateFile(file string, now time.Time, rotate func(Config) (Rotation, error)) (Rotation, error) {
	old, err := keysOf(file)
	if err != nil {
		return Rotation{}, err
	}
	key := newKey(now)
	if err := writeConfig(file, append([]apiserver.Key{key}, old...)); err != nil {
		return Rotation{}, err
	}
	c, err := ReadConfig(file)
	if err != nil {
		return Rotation{}, err
	}
	done, err := rotate(c)
	if err != nil {
		return done, fmt.Errorf("%w; %s has the new key and the old ones, try again", err, file)
	}
	return done, writeConfig(file, []apiserver.Key{key})
}

// keysOf are those in a file that EnsureConfig has made.
func keysOf(file string) ([]apiserver.Key, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	obj, _, err := codecs.UniversalDecoder().Decode(text, nil, nil)
	config, ok := obj.(*apiserver.EncryptionConfiguration)
	if err != nil || !ok || len(config.Resources) != 1 || !slices.Equal(config.Resources[0].Resources, []string{"secrets"}) ||
		len(config.Resources[0].Providers) != 1 || config.Resources[0].Providers[0].Secretbox == nil {
		return nil, fmt.Errorf("%s is not as this program has written it, and would lose what was changed: name it with --encryption-config at the next start, after which `reprise secrets rotate` takes what you write there", file)
	}
	return config.Resources[0].Providers[0].Secretbox.Keys, nil
}

func newKey(now time.Time) apiserver.Key {
	return apiserver.Key{Name: now.UTC().Format("2006-01-02-150405"), Secret: base64.StdEncoding.EncodeToString(newSecret())}
}

// writeConfig writes a file that only its owner can read, whole or not at all.
func writeConfig(file string, keys []apiserver.Key) error {
	var b strings.Builder
	b.WriteString(`# The keys by which the keys of this cluster's Secrets are wrapped; the first one is
# in use. Without it nobody can read them: keep a copy, and apart from the log's.
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - secretbox:
      keys:
`)
	for _, k := range keys {
		fmt.Fprintf(&b, "      - name: %q\n        secret: %s\n", k.Name, k.Secret)
	}
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make the directory of the cluster key: %w", err)
	}
	if err := durable.Replace(file, []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("cannot write the cluster key: %w", err)
	}
	return nil
}
