package disk_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/reprise-run/reprise/cmd/torture/disk"
)

// What was synced is there after a power cut, on the file system that the kernel
// recovers, and what was not synced need not be.
func TestPowerCut(t *testing.T) {
	if missing := disk.Missing(); missing != "" {
		t.Skipf("needs %s", missing)
	}
	home := t.TempDir()
	d := disk.New(256 << 20)
	if err := d.Format(home); err != nil {
		t.Fatal(err)
	}
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
