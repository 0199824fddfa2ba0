package durable_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/reprise-run/reprise/events/durable"
)

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	// A longer one, of a crash.
	if err := os.WriteFile(filepath.Join(dir, ".f.new"), []byte("something longer"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"one", "other"} {
		if err := durable.Replace(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("it says %q, %v", got, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("it is %v, %v", info, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("there are %v, %v", left, err)
	}
}

// Beside a directory in place of the file nothing is left, and it stays.
func TestReplaceThatFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "f", "g"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.Replace(filepath.Join(dir, "f"), []byte("one"), 0o600); err == nil {
		t.Error("a directory was replaced")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("there are %v, %v", left, err)
	}
}

// What is written in part takes no one's place.
func TestReplaceByWhatFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := durable.Replace(path, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	err := durable.ReplaceBy(path, 0o600, func(to io.Writer) error {
		_, err := to.Write([]byte("the oth"))
		return errors.Join(err, broken)
	})
	if !errors.Is(err, broken) {
		t.Errorf("it was replaced with %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "one" {
		t.Errorf("it says %q, %v", got, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("there are %v, %v", left, err)
	}
}

func TestConfirm(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	if err := durable.Confirm(f); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := durable.Confirm(f); err == nil {
		t.Error("a closed file is confirmed")
	}
}

// The data directory may be another user's, as long as it can be written.
func TestConfirmAsAnotherThanTheOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err == nil {
		err = f.Chmod(0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	as := func(user int) (err error) {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			runtime.LockOSThread() // which ends with the goroutine, and the user with it
			if err = unix.Setfsuid(user); err == nil {
				err = durable.Confirm(f)
			}
		}()
		<-ended
		return err
	}
	if err := as(65534); err != nil {
		t.Errorf("who may write it cannot confirm it: %v", err)
	}
	if err := f.Chmod(0o600); err != nil {
		t.Fatal(err)
	}
	if err := as(65534); !errors.Is(err, unix.EACCES) {
		t.Errorf("who may not write it gets %v", err)
	}
}
