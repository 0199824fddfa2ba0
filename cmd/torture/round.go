package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/reprise-run/reprise/cmd/torture/disk"
)

// subject is what runs on a machine that is tortured, and those who use it and know
// what they were told.
type subject interface {
	// start starts the server on a data directory.
	start(dir string) (*process, error)
	// ready returns once it serves.
	ready(ctx context.Context, p *process, dir string) error
	// load sets clients to work until stop is called, which is told whether the
	// server is dead.
	load(ctx context.Context, name string, clients int, random *rand.Rand) (stop func(dead bool), err error)
	// check compares what a server that is ready has with what the clients know.
	check(ctx context.Context, p *process, dir string) error
	// counts says what the clients were told so far.
	counts() tally
	// close ends what the subject runs beside the server.
	close() error
}

// rack is one machine with its disk, from when it is new until it is replaced.
type rack struct {
	home    string
	random  *rand.Rand
	disk    *disk.Disk
	fs      *disk.Attached
	server  *process
	subject subject
	sound   bool   // whether the disk always keeps what it was made to
	only    string // the trouble of each round, "" for that of chance
	n       int    // rounds so far
}

// diskSize has room for what a rack's rounds write.
const diskSize = 1 << 30

func newRack(ctx context.Context, home string, is subject, random *rand.Rand) (*rack, error) {
	r := &rack{home: home, random: random, disk: disk.New(diskSize), subject: is}
	if err := r.disk.Format(home); err != nil {
		return nil, err
	}
	// The first start may be cut short as well.
	if err := r.bootThrough(ctx, 2, 2*time.Second); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// boot mounts the disk, if it is not, and starts a server on it.
func (r *rack) boot(ctx context.Context) error {
	if err := r.launch(); err != nil {
		return err
	}
	return r.subject.ready(ctx, r.server, r.fs.Dir)
}

func (r *rack) launch() (err error) {
	if r.fs == nil {
		if r.fs, err = r.disk.Attach(r.home); err != nil {
			return fmt.Errorf("the file system does not recover: %w", err)
		}
		if err := os.Remove(r.ballast()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	r.server, err = r.subject.start(r.fs.Dir)
	return err
}

// close leaves nothing behind.
func (r *rack) close() error {
	if err := r.subject.close(); err != nil {
		return err
	}
	if r.server != nil {
		if err := r.server.end(); err != nil {
			return err
		}
		r.server = nil
	}
	if r.fs == nil {
		return nil
	}
	err := r.fs.Detach()
	r.fs = nil
	return err
}

// round does one: load, trouble or none, the end of the process or of the power,
// recovery, and the comparison with what is known. The server runs before and after.
func (r *rack) round(ctx context.Context) (what string, err error) {
	r.n++
	clients := 1 << r.random.IntN(6)
	stopLoad, err := r.subject.load(ctx, fmt.Sprint("r", r.n), clients, r.random)
	if err != nil {
		return "", err
	}
	stopWriting := r.writeBack(ctx)
	stop := func() { stopWriting(); stopLoad(true) }
	pause(ctx, r.upTo(900*time.Millisecond))
	trouble := r.makeTrouble()
	if trouble.name != "" {
		pause(ctx, r.upTo(1500*time.Millisecond))
	}
	what = fmt.Sprintf("%2d clients, %s", clients, trouble.name)
	killed := r.random.IntN(3) == 0
	if killed {
		what += "kill -9"
		err = r.server.end()
		stop()
		trouble.end()
		stop = func() {}
	}
	if killed && trouble.broken && err == nil {
		what += " and start, "
		err = r.tryAgain(ctx)
	}
	if err == nil && (!killed || trouble.broken) {
		if r.random.IntN(2) == 0 {
			r.awaitWrite(ctx)
		}
		var loss disk.Loss
		loss, err = r.cut(r.way(), stop)
		what += fmt.Sprintf("power cut (%s, %d writes in the cache, %d sectors lost)", loss.Way, loss.Writes, loss.Sectors)
	}
	if err == nil {
		err = r.recover(ctx)
	}
	if err != nil {
		return what, err
	}
	return what, r.subject.check(ctx, r.server, r.fs.Dir)
}

// tryAgain starts the server on a disk that has failed and is well again, without the
// boot that shows what it kept. The server need not start, but must say why; what it
// tells its clients if it does must be on the disk.
func (r *rack) tryAgain(ctx context.Context) error {
	if err := r.launch(); err != nil {
		return err
	}
	err := r.subject.ready(ctx, r.server, r.fs.Dir)
	if err == nil {
		return r.subject.check(ctx, r.server, r.fs.Dir)
	}
	for _, clear := range []string{"read-only file system", "input/output error", "cannot be written"} {
		if strings.Contains(err.Error(), clear) {
			return nil
		}
	}
	return fmt.Errorf("on a disk that has failed: %w", err)
}

func (r *rack) upTo(d time.Duration) time.Duration { return time.Duration(r.random.Int64N(int64(d))) }

// awaitWrite has the power go in the midst of what the server writes next, if it
// writes.
func (r *rack) awaitWrite(ctx context.Context) {
	dark := r.disk.CutAfter(1 + r.random.IntN(30))
	timer := time.NewTimer(2 * time.Second)
	defer timer.Stop()
	select {
	case <-dark:
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (r *rack) way() disk.Way { return disk.Way(r.random.IntN(int(disk.Ways))) }

// cut cuts the power of disk and machine at one instant.
func (r *rack) cut(way disk.Way, between func()) (disk.Loss, error) {
	next, loss := r.disk.Cut(way, r.random)
	r.server.kill()
	// What waits for the disk ends only once it is told that the disk is gone, and
	// then the signal ends it.
	r.disk.Die()
	err := r.server.wait()
	between()
	err = errors.Join(err, r.fs.Abandon())
	r.disk, r.fs = next, nil
	return loss, err
}

// recover starts the server on what is left. Now and then a second fault hits the
// recovery itself.
func (r *rack) recover(ctx context.Context) error {
	return r.bootThrough(ctx, 4, 400*time.Millisecond)
}

// bootThrough starts the server, and one time in so many ends it before, so long after it
// began at most.
func (r *rack) bootThrough(ctx context.Context, oneIn int, within time.Duration) error {
	for range 3 {
		if r.random.IntN(oneIn) != 0 {
			break
		}
		if err := r.launch(); err != nil {
			return err
		}
		pause(ctx, r.upTo(within))
		var err error
		if r.random.IntN(2) == 0 {
			err = r.server.end()
		} else {
			_, err = r.cut(r.way(), func() {})
		}
		r.server = nil
		if err != nil {
			return err
		}
	}
	return r.boot(ctx)
}

// writeBack writes parts of files to the disk's cache at random, as the kernel does
// in its own time, so that what nobody has synced may be there too, in any order. It
// goes on until stopped is called.
func (r *rack) writeBack(ctx context.Context) (stopped func()) {
	ctx, cancel := context.WithCancel(ctx)
	random := rand.New(rand.NewPCG(r.random.Uint64(), 0))
	dir, done := r.fs.Dir, make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			pause(ctx, time.Duration(random.Int64N(int64(30*time.Millisecond))))
			writeBackOne(dir, random)
		}
	}()
	return func() { cancel(); <-done }
}

// files lists the files under a directory; those that go away meanwhile do not matter.
func files(dir string) (all []string) {
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			all = append(all, path)
		}
		return nil
	})
	return all
}
