package jetstream

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/logtest"
)

func openVault(t *testing.T, dir string) (*Server, *vault) {
	t.Helper()
	s, nc := startIn(t, dir)
	v, err := Vault(t.Context(), nc, Config{})
	if err != nil {
		t.Fatal(err)
	}
	return s, v.(*vault)
}

func TestVault(t *testing.T) {
	logtest.RunVault(t, func(t *testing.T) events.Vault {
		_, v := openVault(t, t.TempDir())
		return v
	})
}

// TestVaultForgets looks for erased values in the files below the directory.
func TestVaultForgets(t *testing.T) {
	dir := t.TempDir()
	s, v := openVault(t, dir)
	for _, name := range []string{"before", "a", "b", "after"} {
		must(t, v.Create(t.Context(), name, []byte("value of "+name+"!")))
	}
	a, err := v.Get(t.Context(), "a")
	must(t, err)
	must(t, v.Replace(t.Context(), a, []byte("newer of a")))
	must(t, v.Erase(t.Context(), "b"))
	check := func(when string) {
		t.Helper()
		for text, want := range map[string]bool{
			"value of before!": true, "value of a!": false, "newer of a": true, "value of b!": false, "value of after!": true,
		} {
			if got := inFiles(t, dir, text); got != want {
				t.Errorf("%s: %q in the files: %v", when, text, got)
			}
		}
	}
	check("at once")
	s.Shutdown()
	check("after the end")
	_, v = openVault(t, dir)
	check("after another start")
	if got, err := v.Get(t.Context(), "a"); err != nil || string(got.Value) != "newer of a" {
		t.Errorf("%+v, %v", got, err)
	}
	// A replacement that was cut short before it destroyed the old value.
	_, err = v.js.Publish(t.Context(), v.root+"a", []byte("newest of a"), jetstream.WithExpectStream("REPRISE_VAULT"))
	must(t, err)
	for _, err := range v.All(t.Context()) {
		must(t, err)
	}
	if inFiles(t, dir, "newer of a") || !inFiles(t, dir, "newest of a") {
		t.Error("the older of two values was kept, or the later lost")
	}
}

func inFiles(t *testing.T, dir, text string) (found bool) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		found = found || bytes.Contains(content, []byte(text))
		return err
	}))
	return found
}
