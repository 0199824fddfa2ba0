package disk_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/reprise-run/reprise/cmd/torture/disk"
)

// formatted is a disk with an empty file system, and a directory for its mounts.
func formatted(t *testing.T) (d *disk.Disk, home string) {
	t.Helper()
	if missing := disk.Missing(); missing != "" {
		t.Skipf("needs %s", missing)
	}
	d, home = disk.New(256<<20), t.TempDir()
	if err := d.Format(home); err != nil {
		t.Fatal(err)
	}
	return d, home
}

// What was synced is there after a power cut, on the file system that the kernel
// recovers, and what was not synced need not be.
func TestPowerCut(t *testing.T) {
	d, home := formatted(t)
	for round := range 2 * uint64(disk.Ways) {
		a, err := d.Attach(home)
		if err != nil {
			t.Fatal(err)
		}
		for i := range round {
			if got, err := os.ReadFile(filepath.Join(a.Dir, fmt.Sprint(i))); err != nil || string(got) != fmt.Sprint("synced ", i) {
				t.Errorf("after cut %d, file %d holds %q (%v)", round, i, got, err)
			}
		}
		f, err := os.Create(filepath.Join(a.Dir, fmt.Sprint(round)))
		if err == nil {
			_, err = fmt.Fprint(f, "synced ", round)
		}
		if err == nil {
			err = f.Sync()
		}
		if err == nil {
			_, err = fmt.Fprint(f, " and more")
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		next, loss := d.Cut(disk.Way(round)%disk.Ways, rand.New(rand.NewPCG(1, round)))
		t.Log(loss)
		d.Die()
		if err := a.Abandon(); err != nil {
			t.Fatal(err)
		}
		d = next
	}
}

// A sync does not succeed if a part of what it had to write was refused.
func TestAWriteThatFailsInPart(t *testing.T) {
	d, home := formatted(t)
	a, err := d.Attach(home)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(a.Dir, "f"))
	t.Cleanup(func() {
		if err := errors.Join(f.Close(), a.Detach()); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, 1<<20)
	write := func(b byte) error {
		for i := range content {
			content[i] = b
		}
		_, err := f.WriteAt(content, 0)
		return errors.Join(err, f.Sync())
	}
	if err := write(1); err != nil {
		t.Fatal(err)
	}
	for refused := range int64(4) {
		var n atomic.Int64
		d.SetTrouble(func(op disk.Op, _ int64, length int) (time.Duration, bool) {
			content := op == disk.Write && length >= 64<<10 // ext4's own writes are small
			return 0, content && n.Add(1) == refused+1
		})
		if err := write(2); !errors.Is(err, syscall.EIO) {
			t.Errorf("write %d was refused, of %d, and the sync says %v", refused+1, n.Load(), err)
		}
		d.SetTrouble(nil)
		if err := write(3); err != nil {
			t.Error(err)
		}
	}
}
