package jetstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reprise-run/reprise/events/jetstream/blockfile"
)

// hardener brings the blocks of a stream to the disk.
//
// It has each block open from its beginning on. The kernel says only once, to each who
// has a file open by then, that something could not be written: whoever opens the file
// later, after somebody else has been told, is told nothing.
type hardener struct {
	dir    string
	stream string

	mu    sync.Mutex
	files []openBlock // those that may have something that is not on disk, in order
}

type openBlock struct {
	index uint64
	file  *os.File
}

// newHardener returns that of a stream whose blocks are all on disk.
func newHardener(dir, stream string) (*hardener, error) {
	all, err := blockfile.List(dir)
	if err != nil {
		return nil, err
	}
	h := &hardener{dir: dir, stream: stream}
	// The last may be empty.
	for _, b := range all[max(0, len(all)-2):] {
		if err := h.open(b.Index); err != nil {
			return nil, errors.Join(err, h.close())
		}
	}
	return h, nil
}

func (h *hardener) open(index uint64) error {
	f, err := os.Open(filepath.Join(h.dir, fmt.Sprint(index, ".blk")))
	if err == nil {
		h.files = append(h.files, openBlock{index, f})
	}
	return err
}

// follow opens the blocks that have been begun since.
func (h *hardener) follow() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		next := uint64(1)
		if n := len(h.files); n > 0 {
			next = h.files[n-1].index + 1
		}
		err := h.open(next)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// sync syncs all blocks, and returns the last event that they have on disk then. What
// replaces a block, which is itself in another form, was synced before.
func (h *hardener) sync() (last uint64, err error) {
	if err := h.follow(); err != nil {
		return 0, err
	}
	h.mu.Lock()
	files := h.files[:len(h.files):len(h.files)]
	h.mu.Unlock()
	for _, b := range files {
		n, err := hardenBlock(b, h.stream)
		if err != nil {
			return 0, err
		}
		last = max(last, n)
	}
	if err := syncDir(h.dir); err != nil {
		return 0, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	// The server goes on in the last of them, or that is empty.
	for len(h.files) > 2 && h.files[1].index < files[len(files)-1].index {
		if err := h.files[0].file.Close(); err != nil {
			return 0, err
		}
		h.files = h.files[1:]
	}
	return last, nil
}

// hardenBlock returns the last event of a block, having synced what it has read.
func hardenBlock(b openBlock, stream string) (last uint64, err error) {
	content, err := blockfile.Read(io.NewSectionReader(b.file, 0, math.MaxInt64))
	if err != nil {
		return 0, err
	}
	raw, _ := blockfile.Decompress(content)
	check := blockfile.Checksum(stream, b.index)
	for len(raw) > 0 {
		r, reason := blockfile.Parse(raw, check)
		if reason != "" {
			break
		}
		if r.Sequence&(blockfile.Erased|blockfile.Tombstone) == 0 {
			last = max(last, r.Sequence)
		}
		raw = raw[r.Size:]
	}
	return last, b.file.Sync()
}

func (h *hardener) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, b := range h.files {
		errs = append(errs, b.file.Close())
	}
	h.files = nil
	return errors.Join(errs...)
}

// harden returns once the stream's files have all events up to one, and are synced. It
// waits for JetStream, which writes a few milliseconds after it has answered. A failure
// is the server's, unless ctx has ended.
func (o *own) harden(ctx context.Context, upTo uint64) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		last, err := o.blocks.sync()
		if err != nil {
			return o.server.fail(o.name, "cannot sync what was appended: "+err.Error())
		}
		if err := o.server.look(); err != nil || last >= upTo {
			return err
		}
		select {
		case <-time.After(wait):
		case <-o.server.closed:
			return errors.New("the server is shut down")
		case <-ctx.Done():
			return fmt.Errorf("stream %s has not written event %d: %w", o.name, upTo, ctx.Err())
		}
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// syncAll makes durable all that was written to the file system of a file.
func syncAll(f *os.File) error { return unix.Syncfs(int(f.Fd())) }
