package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reprise-run/reprise/cmd/torture/disk"
)

// trouble is what goes wrong with a disk before the end.
type trouble struct {
	name string // "" for none
	// broken says that the disk does not keep what it was given, so that only a boot
	// tells what there is.
	broken bool
	end    func()
}

// What can go wrong. In three of eight rounds nothing does.
const (
	slowDisk = iota
	oneFlush
	someWrites
	allFails
	fullDisk
)

// troubles are their names for who has one of them in each round.
var troubles = []string{slowDisk: "slow", oneFlush: "flush", someWrites: "writes", allFails: "all", fullDisk: "full"}

// makeTrouble begins what chance says, or what is to be in each round.
func (r *rack) makeTrouble() trouble {
	random := rand.New(rand.NewPCG(r.random.Uint64(), 0))
	over := func() { r.disk.SetTrouble(nil) }
	kind := r.random.IntN(8)
	if r.only != "" {
		kind = slices.Index(troubles, r.only)
	}
	if r.sound && kind != slowDisk {
		return trouble{end: func() {}}
	}
	switch kind {
	case slowDisk:
		most := 5 + random.Int64N(200)
		r.disk.SetTrouble(slow(random.Uint64(), most))
		return trouble{"slow disk, ", false, over}
	case oneFlush:
		r.disk.SetTrouble(failing(disk.Flush, 1))
		return trouble{"one flush fails, ", true, over}
	case someWrites:
		r.disk.SetTrouble(failing(disk.Write, 1+random.Int64N(3)))
		return trouble{"some writes fail, ", true, over}
	case allFails:
		r.disk.SetTrouble(failing(disk.Op(1+random.IntN(2)), 1<<40))
		return trouble{"all writes or flushes fail, ", true, over}
	case fullDisk:
		r.fill(random)
		// After a power cut it is removed at the next boot.
		return trouble{"full disk, ", false, func() { _ = os.Remove(r.ballast()) }}
	}
	return trouble{end: func() {}}
}

// slow delays every flush by up to so many milliseconds. Chance is drawn by number,
// because operations come from several threads.
func slow(seed uint64, most int64) disk.Trouble {
	var n atomic.Uint64
	return func(op disk.Op, _ int64, _ int) (time.Duration, bool) {
		if op != disk.Flush {
			return 0, false
		}
		return time.Duration(rand.New(rand.NewPCG(seed, n.Add(1))).Int64N(most)) * time.Millisecond, false
	}
}

// failing fails the next so many operations of a kind.
func failing(kind disk.Op, times int64) disk.Trouble {
	var n atomic.Int64
	return func(op disk.Op, _ int64, _ int) (time.Duration, bool) {
		return 0, op == kind && n.Add(1) <= times
	}
}

// fill takes the room on the disk but for a little.
func (r *rack) fill(random *rand.Rand) {
	f, err := os.Create(r.ballast())
	if err != nil {
		return
	}
	defer f.Close()
	var s unix.Statfs_t
	if unix.Statfs(r.fs.Dir, &s) == nil {
		leave := random.Int64N(4 << 20)
		// If there is less room than that already, it is full.
		_ = unix.Fallocate(int(f.Fd()), 0, 0, max(int64(s.Bavail)*s.Bsize-leave, 4096))
	}
}

// ballast is the file that fills the disk.
func (r *rack) ballast() string { return filepath.Join(r.home, "data", ballast) }

const ballast = "ballast"

// writeBackOne begins to write back a part of one file.
func writeBackOne(dir string, random *rand.Rand) {
	all := slices.DeleteFunc(files(dir), func(path string) bool { return filepath.Base(path) == ballast })
	if len(all) == 0 {
		return
	}
	f, err := os.OpenFile(all[random.IntN(len(all))], os.O_RDWR, 0)
	if err != nil {
		return // gone meanwhile
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return
	}
	from := random.Int64N(info.Size())
	// What cannot be written back is what a power cut would not find.
	_ = unix.SyncFileRange(int(f.Fd()), from, 1+random.Int64N(info.Size()-from), unix.SYNC_FILE_RANGE_WRITE)
}
