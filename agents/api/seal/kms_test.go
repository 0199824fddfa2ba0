package seal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	kmsservice "k8s.io/kms/pkg/service"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/memvault"
)

// plugin is a KMS whose keys are clusterKeys of their own.
type plugin struct {
	mu      sync.Mutex
	current string
	unwell  bool
	lost    string // the key that it has no more
	calls   map[string]int
}

func (p *plugin) key(id string) (*clusterKey, error) {
	if id == p.lost {
		return nil, errors.New("that key was destroyed")
	}
	return newClusterKey(id, []byte("the secret of "+id))
}

func (p *plugin) count(call string) {
	p.calls[call]++
}

func (p *plugin) Status(context.Context) (*kmsservice.StatusResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count("status")
	health := "ok"
	if p.unwell {
		health = "no quorum"
	}
	return &kmsservice.StatusResponse{Version: "v2", Healthz: health, KeyID: p.current}, nil
}

func (p *plugin) Encrypt(_ context.Context, _ string, data []byte) (*kmsservice.EncryptResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count("encrypt")
	k, err := p.key(p.current)
	if err != nil {
		return nil, err
	}
	return &kmsservice.EncryptResponse{
		Ciphertext: k.aead.Seal(nil, nil, data, nil), KeyID: p.current, Annotations: map[string][]byte{"local.kms.example.com": []byte("1")},
	}, nil
}

func (p *plugin) Decrypt(_ context.Context, _ string, r *kmsservice.DecryptRequest) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count("decrypt")
	k, err := p.key(r.KeyID)
	if err != nil {
		return nil, err
	}
	if string(r.Annotations["local.kms.example.com"]) != "1" {
		return nil, errors.New("its annotations are not those that it came with")
	}
	return k.aead.Open(nil, nil, r.Ciphertext, nil)
}

// serve starts the plugin on a socket and returns its endpoint.
func (p *plugin) serve(t *testing.T) (endpoint string, stop func()) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "kms.sock")
	s := kmsservice.NewGRPCService(socket, 5*time.Second, p)
	done := make(chan error, 1)
	go func() { done <- s.ListenAndServe() }()
	stop = sync.OnceFunc(func() {
		s.Shutdown()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return "unix://" + socket, stop
}

func kmsConfigOf(t *testing.T, endpoint, more string) Config {
	t.Helper()
	c, err := parseConfig(fmt.Appendf(nil, `
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - kms: {apiVersion: v2, name: test, endpoint: %q, timeout: 2s}
%s`, endpoint, more))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestKMS has the cluster key kept by a plugin that speaks gRPC on a socket.
func TestKMS(t *testing.T) {
	v := memvault.New(time.Now)
	p := &plugin{current: "key-1", calls: map[string]int{}}
	endpoint, stop := p.serve(t)
	config := kmsConfigOf(t, endpoint, "")

	k := keeperOf(t, v, config)
	var sealed [][]byte
	for i := range 20 {
		doc, _, err := k.Seal(t.Context(), db, fmt.Sprint("u-", i), nil, []byte(secretDoc))
		if err != nil {
			t.Fatal(err)
		}
		sealed = append(sealed, doc)
	}
	check := func(k *Keeper) {
		t.Helper()
		for i, doc := range sealed {
			if opened, err := k.Open(t.Context(), db, fmt.Sprint("u-", i), doc); err != nil || string(opened) != secretDoc {
				t.Fatalf("%s, %v", opened, err)
			}
		}
	}
	check(keeperOf(t, v, config))
	if p.calls["encrypt"] != 1 || p.calls["decrypt"] != 1 {
		t.Errorf("for 20 objects and a restart the plugin was called %v", p.calls)
	}

	// Its key is rotated: a new cluster key, the old one still opens.
	p.current = "key-2"
	k = keeperOf(t, v, config)
	check(k)
	wrapAll(t, k)
	if ids := wrappers(t, v); len(ids) != 1 || !strings.HasPrefix(ids[0], "kms-test/") {
		t.Errorf("the objects' keys are wrapped by %v", ids)
	}
	// What the plugin encrypted by the old key is of no use any more, and gone.
	p.lost = "key-1"
	check(keeperOf(t, v, config))

	// The plugin is away, or unwell, or has lost its key: a clear error each.
	before := vaultText(t, v)
	fails := func(what, want string) {
		t.Helper()
		_, err := New(t.Context(), Options{Vault: v, Config: config, Log: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.Contains(err.Error(), "KMS plugin test") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	p.unwell = true
	fails("unwell", "no quorum")
	p.unwell, p.lost = false, "key-2"
	fails("without its key", "cannot decrypt the cluster key")
	p.lost = ""
	stop()
	fails("away", "does not answer")
	if after := vaultText(t, v); after != before {
		t.Error("a start that failed has changed the vault")
	}
	check(k) // The server that runs needs no plugin.
}

// TestFromFileToKMS moves a cluster from a key in a file to a plugin and back.
func TestFromFileToKMS(t *testing.T) {
	v := memvault.New(time.Now)
	sealed, _, err := keeperOf(t, v, configOf(t, "secrets", "one")).Seal(t.Context(), db, "u-1", nil, []byte(secretDoc))
	if err != nil {
		t.Fatal(err)
	}
	p := &plugin{current: "key-1", calls: map[string]int{}}
	endpoint, _ := p.serve(t)
	file := fmt.Sprintf("  - secretbox: {keys: [{name: one, secret: %s}]}\n", secretOf("one"))
	wrapAll(t, keeperOf(t, v, kmsConfigOf(t, endpoint, file)))
	k := keeperOf(t, v, kmsConfigOf(t, endpoint, ""))
	if opened, err := k.Open(t.Context(), db, "u-1", sealed); err != nil || string(opened) != secretDoc {
		t.Errorf("%s, %v", opened, err)
	}
}

// wrapAll does what Run does for keys whose objects are there.
func wrapAll(t *testing.T, k *Keeper) {
	t.Helper()
	if _, err := k.rewrap(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func wrappers(t *testing.T, v events.Vault) (ids []string) {
	t.Helper()
	seen := map[string]bool{}
	for kept, err := range v.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		rec, ok, err := recordOf(kept)
		if err != nil {
			t.Fatal(err)
		}
		if ok && !seen[rec.By] {
			seen[rec.By] = true
			ids = append(ids, rec.By)
		}
	}
	return ids
}

func vaultText(t *testing.T, v events.Vault) string {
	t.Helper()
	text := map[string]string{}
	for kept, err := range v.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		text[kept.Name] = string(kept.Value)
	}
	return fmt.Sprint(text)
}
