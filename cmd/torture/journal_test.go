package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/reprise-run/reprise/cmd/torture/disk"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream/intent"
)

// A flush fails on behalf of another file, and the file system's journal ends. What the log's
// journal takes for durable then must be there after the power was cut.
func TestASyncForAnotherFileFails(t *testing.T) {
	if missing := disk.Missing(); missing != "" {
		t.Skipf("needs %s", missing)
	}
	for round := range 8 {
		failAnothersSync(t, round)
	}
}

func failAnothersSync(t *testing.T, round int) {
	home, d := t.TempDir(), disk.New(256<<20)
	if err := d.Format(home); err != nil {
		t.Fatal(err)
	}
	a, err := d.Attach(home)
	if err != nil {
		t.Fatal(err)
	}
	j, _, err := intent.Open(a.Dir, "S", intent.Options{})
	if err == nil {
		err = j.Reset()
	}
	if err != nil {
		t.Fatal(err)
	}
	stop := disturb(t, a.Dir, func() { d.SetTrouble(failing(disk.Flush, 1)) }, 5+round)
	var last uint64
	for ; ; last++ {
		batch := []events.Event{{Sequence: last + 1, Type: "x.y", Data: fmt.Appendf(nil, "[%0200000d]", 1)}}
		if err := j.Write(last, batch); err != nil {
			t.Log(err)
			break
		}
	}
	stop()
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	next, loss := d.Cut(disk.Way(round)%disk.Ways, rand.New(rand.NewPCG(1, uint64(round))))
	d.Die()
	if err := a.Abandon(); err != nil {
		t.Fatal(err)
	}
	if a, err = next.Attach(home); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := a.Detach(); err != nil {
			t.Error(err)
		}
	}()
	records, err := intent.Read(a.Dir, "S")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(records); n == 0 && last > 0 || n > 0 && records[n-1].Last() < last {
		t.Errorf("%d appends were said to be durable, and %d are there (%v)", last, n, loss)
	}
}

// disturb has the journal's files be written by the kernel before they are synced, and
// another file be synced again and again, the n-th time with trouble.
func disturb(t *testing.T, dir string, trouble func(), n int) (stop func()) {
	var busy sync.WaitGroup
	var files []*os.File
	over := make(chan struct{})
	again := func(f func(i int)) {
		busy.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				default:
					f(i)
				}
			}
		})
	}
	for _, path := range intent.Paths(dir, "S") {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
		again(func(int) {
			_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
		})
	}
	other, err := os.Create(filepath.Join(dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, other)
	again(func(i int) {
		if i == n {
			trouble()
		}
		if _, err := other.WriteString("x"); err == nil {
			_ = other.Sync() // it is to fail
		}
	})
	return func() {
		close(over)
		busy.Wait()
		for _, f := range files {
			f.Close()
		}
	}
}
