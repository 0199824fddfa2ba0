package jetstream

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reprise-run/reprise/events/durable"
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

	syncing sync.Mutex // held by the one who syncs

	mu      sync.Mutex
	files   []*openBlock // those that may have something that is not on disk, in order
	durable uint64       // the last event that is on disk for certain
	full    uint64       // the blocks before it are on disk, and this process goes on behind them
}

type openBlock struct {
	index uint64
	file  *os.File
	// read is up to where it is on disk and was seen to have every event.
	read int64
}

// newHardener returns that of a stream whose blocks are all on disk, up to an event.
func newHardener(dir, stream string, last uint64) (*hardener, error) {
	all, err := blockfile.List(dir)
	if err != nil {
		return nil, err
	}
	h := &hardener{dir: dir, stream: stream, durable: last}
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
		h.files = append(h.files, &openBlock{index: index, file: f})
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

// sync syncs all blocks, and returns the last event up to which they have all on disk
// then. What replaces a block, which is itself in another form, was synced before.
func (h *hardener) sync() (last uint64, err error) {
	h.syncing.Lock()
	defer h.syncing.Unlock()
	if err := h.follow(); err != nil {
		return 0, err
	}
	h.mu.Lock()
	files := h.files[:len(h.files):len(h.files)]
	last = h.durable
	h.mu.Unlock()
	for _, b := range files {
		if last, err = b.harden(h.stream, last); err != nil {
			return 0, err
		}
	}
	if err := durable.SyncDir(h.dir); err != nil {
		return 0, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.durable = last
	for _, b := range files {
		if b.read > 0 {
			h.full = b.index
		}
	}
	// The server goes on in the last of them, or that is empty.
	for len(h.files) > 2 && h.files[1].index < files[len(files)-1].index {
		if err := h.files[0].file.Close(); err != nil {
			return 0, err
		}
		h.files = h.files[1:]
	}
	return last, nil
}

// harden syncs a block, and returns the event up to which there is all when what the
// block has is added to what is on disk up to one. It fails if the block goes on behind
// something that is missing: what cannot be read may be the end of a block that is being
// written, or damage, and what follows tells.
func (b *openBlock) harden(stream string, last uint64) (uint64, error) {
	info, err := b.file.Stat()
	if err != nil {
		return 0, err
	}
	size := min(info.Size(), b.read+blockfile.Largest)
	s := scan{check: blockfile.Checksum(stream, b.index), index: b.index, last: last, read: b.read}
	// A piece at a time, which holds a record at least.
	piece := make([]byte, max(0, min(size-b.read, 256<<10)))
	for at := b.read; at < size; {
		some := piece[:min(int64(len(piece)), size-at)]
		if _, err := b.file.ReadAt(some, at); err != nil {
			return 0, err
		}
		if at == 0 && blockfile.Compressed(some) {
			return b.hardenCompressed(s, size)
		}
		n, err := s.records(some)
		if err != nil {
			return 0, err
		}
		at += int64(n)
		if left := int64(len(some) - n); left > 0 && at+left == size {
			break // what is left is no record, or not yet
		}
		if n == 0 {
			piece = make([]byte, 2*len(piece))
		}
	}
	if err := b.file.Sync(); err != nil {
		return 0, err
	}
	b.read = s.read
	return s.last, nil
}

// hardenCompressed is harden for a block that is compressed, and has so many bytes.
func (b *openBlock) hardenCompressed(s scan, size int64) (uint64, error) {
	content := make([]byte, size)
	if _, err := b.file.ReadAt(content, 0); err != nil {
		return 0, err
	}
	raw, _ := blockfile.Decompress(content)
	n, err := s.records(raw)
	if err != nil {
		return 0, err
	}
	if err := b.file.Sync(); err != nil {
		return 0, err
	}
	if !s.torn && n == len(raw) {
		b.read = size
	}
	return s.last, nil
}

// scan is what has been seen of a block's records.
type scan struct {
	check hash.Hash64
	index uint64
	last  uint64 // the event up to which there is all
	read  int64  // up to where all records are sound
	torn  bool   // there was one that is not
}

// records looks at those that raw begins with, and returns how many bytes they have.
func (s *scan) records(raw []byte) (n int, err error) {
	for n < len(raw) {
		r, reason := blockfile.Parse(raw[n:], s.check)
		if r.Size == 0 {
			break
		}
		n += r.Size
		if s.torn = s.torn || reason != ""; !s.torn {
			s.read += int64(r.Size)
		}
		if reason != "" || r.Sequence&(blockfile.Erased|blockfile.Tombstone) != 0 || r.Sequence <= s.last {
			continue
		}
		if r.Sequence != s.last+1 {
			return n, fmt.Errorf("block %d goes on with event %d, and event %d cannot be read", s.index, r.Sequence, s.last+1)
		}
		s.last = r.Sequence
	}
	return n, nil
}

// through is a block of which something is on disk, and so all of those before it.
func (h *hardener) through() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.full
}

// has says whether an event is known to be on disk.
func (h *hardener) has(sequence uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.durable >= sequence
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

// overdue is how long JetStream may write nothing of what it is to write before it counts
// as failed.
const overdue = time.Minute

// slow is between two looks at files that are not written soon.
const slow = 100 * time.Millisecond

// quiet is how long nothing is appended before the files are looked at.
const quiet = time.Second

// restLater has the files be looked at when nothing more is appended for a while.
func (o *own) restLater() {
	if o.rests == nil {
		o.rests = time.AfterFunc(o.quiet, o.rest)
	} else {
		o.rests.Reset(o.quiet)
	}
}

// rest brings to the disk what was appended last, once nothing more is. JetStream tells
// of a write that failed when it is given the next message, and the kernel when the file
// is synced: without that, a log to which nothing is appended any more would have failed
// and nobody would know.
func (o *own) rest() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended || o.server.Err() != nil {
		return
	}
	select {
	case <-o.hardened:
	default:
		o.rests.Reset(o.quiet)
		return
	}
	if o.land(expired) != nil {
		o.rests.Reset(o.quiet)
		return
	}
	if o.torn == nil && !o.blocks.has(o.last) {
		o.begin(o.last)
	}
}

// harden returns once the stream's files have all events up to one, and are synced. It
// waits for JetStream, which writes a few milliseconds after it has answered. A failure
// is the server's, unless ctx has ended.
func (o *own) harden(ctx context.Context, upTo uint64) error {
	reached, since := uint64(0), time.Now()
	for wait := time.Millisecond; ; wait = min(2*wait, slow) {
		last, err := o.blocks.sync()
		if err != nil {
			return o.server.fail(o.name, "cannot sync what was appended: "+err.Error())
		}
		if err := o.server.look(); err != nil || last >= upTo {
			return err
		}
		if wait == slow && o.server.lost(ctx, o.name, upTo) {
			return o.server.fail(o.name, fmt.Sprintf("event %d was appended, and could not be written", upTo))
		}
		if last > reached {
			reached, since = last, time.Now()
		} else if time.Since(since) > o.overdue {
			return o.server.fail(o.name, fmt.Sprintf("event %d was appended, and its files end at %d", upTo, last))
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

// syncAll makes durable all that was written to the file system of a file.
func syncAll(f *os.File) error { return unix.Syncfs(int(f.Fd())) }
