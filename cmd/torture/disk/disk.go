// Package disk is a disk for tests, whose power can be cut. It keeps in a volatile
// cache what was written and not flushed, as a real disk does, and a cut loses,
// tears and reorders that; what was flushed it keeps. It can also be slow, and fail.
//
// A Disk is a value in memory. Attach gives it to the kernel: as a file of a FUSE
// file system of this process, with a loop device on it and ext4 on that. The
// kernel's flushes reach the file as fsync, so that what a program gets to keep is
// exactly what its own fsyncs, and ext4's journal, have asked for.
package disk

import (
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Sector is what a power cut leaves whole: it is written or it is not.
const Sector = 512

// super is the block at the head of the disk with ext4's superblock, which is not
// torn: ext4 itself does not survive that. Disks whose sectors are so large do not
// tear it, and what is tested here stands on ext4.
const super = 4096

// Op is what is asked of a disk.
type Op int

// The operations that can be in trouble.
const (
	Read Op = iota
	Write
	Flush
)

// Trouble makes an operation wait, and then fail if fail is true. A write that
// fails changes nothing; a flush that fails keeps nothing and forgets nothing.
type Trouble func(op Op, offset int64, length int) (wait time.Duration, fail bool)

// Disk is a block device. Many may use it at once.
type Disk struct {
	size int64

	mu      sync.Mutex
	now     sparse  // what is read
	kept    sparse  // what a power cut cannot take
	unsaved []write // what came since the last flush, in order
	saved   int     // how many writes came before those
	trouble Trouble
	fuse    int           // the power goes with so many writes more; never if 0
	off     chan struct{} // closed when the power is cut
	dead    chan struct{} // closed when what waits since then is to fail
}

type write struct {
	offset int64
	data   []byte
}

// New returns a disk of zeros.
func New(size int64) *Disk { return newDisk(size, sparse{}, sparse{}) }

func newDisk(size int64, now, kept sparse) *Disk {
	return &Disk{size: size, now: now, kept: kept, off: make(chan struct{}), dead: make(chan struct{})}
}

// SetTrouble makes the operations that begin from now on go wrong; nil ends that.
func (d *Disk) SetTrouble(t Trouble) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trouble = t
}

// ReadAt fills p from an offset.
func (d *Disk) ReadAt(p []byte, offset int64) error {
	if err := d.begin(Read, offset, len(p)); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now.read(p, offset)
	return nil
}

// WriteAt puts p into the cache.
func (d *Disk) WriteAt(p []byte, offset int64) error {
	if err := d.begin(Write, offset, len(p)); err != nil {
		return err
	}
	d.mu.Lock()
	if d.dark() {
		d.mu.Unlock()
		return d.hang()
	}
	defer d.mu.Unlock()
	d.now.write(p, offset)
	d.unsaved = append(d.unsaved, write{offset, slices.Clone(p)})
	if d.fuse > 0 {
		if d.fuse--; d.fuse == 0 {
			close(d.off)
		}
	}
	return nil
}

// CutAfter cuts the power with the n-th write from now on, when the cache is not
// empty for certain. The channel is closed then; Cut tells what is left.
func (d *Disk) CutAfter(n int) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fuse = n
	return d.off
}

// Flush makes durable what was written before it was called.
func (d *Disk) Flush() error {
	d.mu.Lock()
	upTo := d.saved + len(d.unsaved)
	d.mu.Unlock()
	if err := d.begin(Flush, 0, 0); err != nil {
		return err
	}
	d.mu.Lock()
	if d.dark() {
		d.mu.Unlock()
		return d.hang()
	}
	defer d.mu.Unlock()
	// Another flush may have saved some of them meanwhile.
	n := max(upTo-d.saved, 0)
	for _, w := range d.unsaved[:n] {
		d.kept.write(w.data, w.offset)
	}
	d.unsaved = slices.Clone(d.unsaved[n:])
	d.saved += n
	return nil
}

// begin waits and fails as the trouble of the moment says.
func (d *Disk) begin(op Op, offset int64, length int) error {
	d.mu.Lock()
	trouble, dark := d.trouble, d.dark()
	d.mu.Unlock()
	if dark {
		return d.hang()
	}
	if trouble == nil {
		return nil
	}
	wait, fail := trouble(op, offset, length)
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-d.off:
			return d.hang()
		}
	}
	if fail {
		return syscall.EIO
	}
	return nil
}

func (d *Disk) dark() bool {
	select {
	case <-d.off:
		return true
	default:
		return false
	}
}

// hang answers nothing while the power is off and the machine is not yet known to
// be dead: a program must not learn of a power cut by an error.
func (d *Disk) hang() error {
	<-d.dead
	return syscall.EIO
}

// Cut cuts the power: from this instant on the disk answers nothing. It returns the
// disk as the next boot finds it, and what was lost. What of the cache had been
// written is decided by chance, in one of the ways in which disks do that.
func (d *Disk) Cut(way Way, random *rand.Rand) (*Disk, Loss) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dark() {
		close(d.off)
	}
	d.fuse = 0
	loss := Loss{Way: way, Writes: len(d.unsaved)}
	part := random.IntN(len(d.unsaved) + 1)
	for i, w := range d.unsaved {
		whole := random.IntN(2) == 0
		for at, end := 0, 0; at < len(w.data); at = end {
			end = min(at+Sector, len(w.data))
			if w.offset+int64(at) < super {
				end = min(int(super-w.offset), len(w.data))
			}
			if !way.keeps(i, part, whole, random.IntN(2) == 0) {
				loss.Sectors += (end - at) / Sector
				continue
			}
			d.kept.write(w.data[at:end], w.offset+int64(at))
		}
	}
	return newDisk(d.size, d.kept.clone(), d.kept), loss
}

// Die fails what waits since the power was cut. By then who used the disk must be
// dead.
func (d *Disk) Die() { close(d.dead) }

// Loss says what a power cut took.
type Loss struct {
	Way     Way
	Writes  int // in the cache
	Sectors int // of those, lost
}

// Way is how a disk treats its cache when the power goes.
type Way int

// The ways of losing.
const (
	LoseAll    Way = iota // the cache is gone
	KeepAll               // all had been written
	KeepPrefix            // written in order, up to a point
	LoseWrites            // each write is there or is not
	TearWrites            // each sector is there or is not
	TearLast              // written in order, the last one in part
	Ways                  // how many there are
)

// String names the way.
func (w Way) String() string {
	return [...]string{"lose-all", "keep-all", "keep-prefix", "lose-writes", "tear-writes", "tear-last"}[w]
}

// keeps says whether a sector of write i survives, if those before write part do in
// order; whole and sector are what chance says of this write and of this sector.
func (w Way) keeps(i, part int, whole, sector bool) bool {
	switch w {
	case KeepAll:
		return true
	case KeepPrefix:
		return i < part
	case LoseWrites:
		return whole
	case TearWrites:
		return sector
	case TearLast:
		return i < part || i == part && sector
	}
	return false
}

// chunk is what a sparse image is made of.
const chunk = 64 << 10

// sparse is an image of which only what was written takes room.
type sparse map[int64][]byte

func (s sparse) read(p []byte, offset int64) {
	s.each(p, offset, func(part, c []byte, at int) {
		if c == nil {
			clear(part)
			return
		}
		copy(part, c[at:])
	}, false)
}

func (s sparse) write(p []byte, offset int64) {
	s.each(p, offset, func(part, c []byte, at int) { copy(c[at:], part) }, true)
}

func (s sparse) each(p []byte, offset int64, do func(part, c []byte, at int), grow bool) {
	for len(p) > 0 {
		at := int(offset % chunk)
		n := min(len(p), chunk-at)
		c := s[offset/chunk]
		if c == nil && grow {
			c = make([]byte, chunk)
			s[offset/chunk] = c
		}
		do(p[:n], c, at)
		p, offset = p[n:], offset+int64(n)
	}
}

func (s sparse) clone() sparse {
	c := make(sparse, len(s))
	for i, data := range s {
		c[i] = slices.Clone(data)
	}
	return c
}
