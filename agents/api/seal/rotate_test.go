package seal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events/memvault"
)

// TestClusterKeyFile makes the file of the first start, rotates its key, and loses
// it.
func TestClusterKeyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "seal", "encryption.yaml")
	v := memvault.New(time.Now)
	ensure := func() error { return EnsureConfig(t.Context(), file, v, time.Now()) }
	read := func() Config {
		t.Helper()
		c, err := ReadConfig(file)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if err := ensure(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	first := read()
	if err := ensure(); err != nil || first.groups[0].providers[0].name != read().groups[0].providers[0].name {
		t.Errorf("the key was made twice: %v", err)
	}
	k := keeperOf(t, v, first)
	sealed, _, err := k.Seal(t.Context(), db, "u-1", nil, []byte(secretDoc))
	if err != nil {
		t.Fatal(err)
	}

	// A rotation that fails half way leaves both keys, and is done again.
	later := time.Now().Add(time.Hour)
	if _, err := RotateFile(file, later, func(Config) (Rotation, error) { return Rotation{}, errors.New("cut short") }); err == nil {
		t.Error("it has not failed")
	}
	if opened, err := keeperOf(t, v, read()).Open(t.Context(), db, "u-1", sealed); err != nil || string(opened) != secretDoc {
		t.Errorf("after a rotation that failed: %s, %v", opened, err)
	}
	done, err := RotateFile(file, later.Add(time.Hour), func(c Config) (Rotation, error) { return k.Rotate(t.Context(), c) })
	if err != nil || done.Keys != 1 || done.Rewrapped != 1 {
		t.Fatal(done, err)
	}
	if got := read(); len(got.groups[0].providers) != 1 {
		t.Errorf("the file has %d keys", len(got.groups[0].providers))
	}
	if opened, err := keeperOf(t, v, read()).Open(t.Context(), db, "u-1", sealed); err != nil || string(opened) != secretDoc {
		t.Errorf("after the rotation: %s, %v", opened, err)
	}
	if _, err := New(t.Context(), Options{Vault: v, Config: first}); !errors.Is(err, errNoClusterKey) {
		t.Errorf("by the old key: %v", err)
	}
	if _, err := k.Rotate(t.Context(), configOf(t, "secrets", "other")); !errors.Is(err, errNoClusterKey) {
		t.Errorf("to a configuration without the key in use: %v", err)
	}

	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadConfig(file); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that everybody can read: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := ensure(); !errors.Is(err, errNoClusterKey) || !strings.Contains(err.Error(), "put it back") {
		t.Errorf("the key is lost: %v", err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Error("another key was made in its place")
	}
}
