// Package sealtest gives tests of the API a keeper of keys with a vault in memory.
// Nothing but tests may import it.
package sealtest

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reprise-run/reprise/agents/api/seal"
	"github.com/reprise-run/reprise/events"
)

// Config is an encryption configuration of some resources, such as "secrets", with
// cluster keys that are made of their names, the first one in use.
func Config(t testing.TB, resources string, keys ...string) seal.Config {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [%s]
  providers:
  - secretbox:
      keys:
`, resources)
	for _, k := range keys {
		fmt.Fprintf(&b, "      - {name: %s, secret: %s}\n", k, base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%-32s", k)))
	}
	file := filepath.Join(t.TempDir(), "encryption.yaml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := seal.ReadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Keeper is one of those keys on a vault.
func Keeper(t testing.TB, v events.Vault, c seal.Config) *seal.Keeper {
	t.Helper()
	k, err := seal.New(t.Context(), seal.Options{Vault: v, Config: c, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return k
}
