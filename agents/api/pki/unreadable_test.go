package pki

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An authority that cannot be read is not replaced.
func TestUnreadableKeyStays(t *testing.T) {
	dir := t.TempDir()
	if _, err := Ensure(dir, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, clientCA+".key")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	// A link to itself is there, and cannot be looked at.
	if err := os.Symlink(file, file); err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(dir, nil, time.Now()); err == nil {
		t.Error("the key of the authority was made anew")
	}
}
