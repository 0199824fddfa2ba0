package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/reprise-run/reprise/cmd/torture/disk"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/jetstream/blocks"
	"github.com/reprise-run/reprise/events/proof"
)

// rack is one machine with its disk, from when it is new until it is replaced.
type rack struct {
	home   string
	out    io.Writer
	random *rand.Rand
	disk   *disk.Disk
	fs     *disk.Attached
	server *process
	book   *ledger
	at     string // where the server listens
	seed   string // the file of the key for it
	n      int    // rounds so far
}

// diskSize has room for what a rack's rounds write.
const diskSize = 1 << 30

func newRack(ctx context.Context, home string, out io.Writer, random *rand.Rand) (*rack, error) {
	r := &rack{home: home, out: out, random: random, disk: disk.New(diskSize), book: newLedger()}
	if err := r.disk.Format(home); err != nil {
		return nil, err
	}
	if err := r.boot(ctx); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// boot mounts the disk, if it is not, and starts a server on it.
func (r *rack) boot(ctx context.Context) (err error) {
	if err := r.launch(); err != nil {
		return err
	}
	r.at, r.seed, err = r.server.ready(ctx)
	return err
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
	r.server, err = startProcess(r.fs.Dir)
	return err
}

// close leaves nothing behind.
func (r *rack) close() error {
	if r.server != nil {
		r.server.kill()
		if err := r.server.wait(); err != nil {
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
func (r *rack) round(ctx context.Context) (string, error) {
	r.n++
	clients := 1 << r.random.IntN(6)
	l, err := startLoad(ctx, r.at, r.seed, fmt.Sprint("r", r.n), clients, r.random, r.book)
	if err != nil {
		return "", err
	}
	stopped := r.writeBack(ctx)
	pause(ctx, r.upTo(900*time.Millisecond))
	trouble := r.makeTrouble()
	if trouble.name != "" {
		pause(ctx, r.upTo(1500*time.Millisecond))
	}
	what := fmt.Sprintf("%2d clients, %s", clients, trouble.name)
	if r.random.IntN(3) == 0 && !trouble.broken {
		r.server.kill()
		what += "kill -9"
		err = r.server.wait()
		stopped()
		l.stop(true)
	} else {
		var loss disk.Loss
		loss, err = r.cut(r.way(), func() { stopped(); l.stop(true) })
		what += fmt.Sprintf("power cut (%s, %d writes in the cache, %d sectors lost)", loss.Way, loss.Writes, loss.Sectors)
	}
	trouble.end()
	r.server = nil
	if err != nil {
		return what, err
	}
	if err := r.recover(ctx); err != nil {
		return what, err
	}
	return what, r.check(ctx)
}

func (r *rack) upTo(d time.Duration) time.Duration { return time.Duration(r.random.Int64N(int64(d))) }

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
	for range 3 {
		if r.random.IntN(4) != 0 {
			break
		}
		if err := r.launch(); err != nil {
			return err
		}
		pause(ctx, r.upTo(400*time.Millisecond))
		var err error
		if r.random.IntN(2) == 0 {
			r.server.kill()
			err = r.server.wait()
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

// check reads the whole log as a client does, and as an auditor does from the files,
// and has the projection compared.
func (r *rack) check(ctx context.Context) error {
	all, err := readAll(ctx, r.at, r.seed)
	if err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	if err := r.book.check(all); err != nil {
		return err
	}
	if err := r.server.verify(ctx); err != nil {
		return err
	}
	stream, err := blocks.Open(filepath.Join(r.fs.Dir, "log"), "reprise")
	if err != nil {
		return err
	}
	audit := proof.NewAudit(nil)
	result, err := stream.Audit(ctx, audit, nil)
	switch {
	case err != nil:
		return fmt.Errorf("auditing the files: %w", err)
	case result.Finding != nil:
		return fmt.Errorf("auditing the files: %w", result.Finding)
	case audit.Taken() < uint64(len(all)):
		return fmt.Errorf("the files hold %d events, and the server tells of %d", audit.Taken(), len(all))
	}
	return nil
}

// readAll reads the history to its end.
func readAll(ctx context.Context, at, seed string) ([]events.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	nc, err := dial(at, seed)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	log, err := jetstream.History(ctx, nc, jetstream.Config{})
	if err != nil {
		return nil, err
	}
	last, err := log.Last(ctx)
	if err != nil || last == 0 {
		return nil, err
	}
	reader, err := log.Follow(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	var all []events.Event
	for uint64(len(all)) < last {
		some, err := reader.Next(ctx)
		if err != nil {
			return nil, fmt.Errorf("after event %d of %d: %w", len(all), last, err)
		}
		all = append(all, some...)
	}
	return all, nil
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
