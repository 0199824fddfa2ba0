package intent

import (
	"errors"
	"fmt"
	"hash"
	"os"
	"syscall"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/durable"
)

// Options adjust a Journal. The zero value is for production.
type Options struct {
	// Full is with how many bytes a file is full; 16 MB if 0.
	Full int64
	// Unsynced leaves it to the kernel when what is written comes to the disk.
	Unsynced bool
}

// first is the file that is written first, by Reset.
const first = 1

// step is how much a file grows at once, if it is to hold more than that.
const step = 1 << 20

// Journal is the files of one stream, opened to be written. It is used by one
// goroutine at a time.
type Journal struct {
	files   [2]*os.File
	sizes   [2]int64 // how long they are
	proven  [2]int64 // how much of their beginning was written by this process, be it zeros
	stream  string
	opts    Options
	current int
	at      int64 // where the next record goes
	sum     hash.Hash64
	newest  uint64 // the generation of the current file
	oldest  uint64 // that before which nothing counts
	last    uint64 // the last sequence written
	grown   bool   // a file has become longer, and no sync since then was confirmed
	buf     []byte
}

// Open opens the files, or makes them, and returns what they hold. Nothing can be
// written before Reset.
func Open(dir, stream string, o Options) (*Journal, []Record, error) {
	r, err := read(dir, stream)
	if err != nil {
		return nil, nil, err
	}
	if o.Full == 0 {
		o.Full = 16 << 20
	}
	j := &Journal{stream: stream, opts: o, newest: r.newest}
	for i, path := range Paths(dir, stream) {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err == nil {
			j.files[i] = f
			var info os.FileInfo
			if info, err = f.Stat(); err == nil {
				j.sizes[i] = info.Size()
			}
		}
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("cannot open the file for what is to be appended: %w", err), j.Close())
		}
	}
	if err := durable.SyncDir(dir); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("cannot make the file for what is to be appended: %w", err), j.Close())
	}
	return j, r.records, nil
}

// Reset forgets all records: the log has on disk what they hold.
func (j *Journal) Reset() error {
	if !j.opts.Unsynced {
		if err := durable.Confirm(j.files[j.current]); err != nil {
			return fmt.Errorf("cannot forget what was appended: %w", err)
		}
	}
	j.Turn()
	j.oldest = j.newest
	b := appendHead(j.buf[:0], head{j.newest, j.oldest})
	if err := j.put(b, 0); err != nil {
		return err
	}
	return j.flush()
}

// Full says that it is time to turn to the other file.
func (j *Journal) Full() bool { return j.at >= j.opts.Full }

// Last is the sequence of the last event that was written, 0 before the first.
func (j *Journal) Last() uint64 { return j.last }

// Turn has what is written next go into the other file, whose records are forgotten once
// something is: the log has on disk what they hold.
func (j *Journal) Turn() {
	j.current = 1 - j.current
	j.newest++
	j.oldest = j.newest - 1 // the other file's
	j.at, j.sum = 0, checksum(j.stream, j.newest)
	j.grown = true // its head may be the first that is written there
}

// Write puts an append on disk. A failure that Unwritten says to be none of the disk's
// has written nothing.
func (j *Journal) Write(after uint64, batch []events.Event) error {
	b := j.buf[:0]
	if j.at == 0 {
		b = appendHead(b, head{j.newest, j.oldest})
	}
	if size := sizeOf(batch); size > mostRecord {
		return unwritten{fmt.Errorf("it has %d MB, and what is appended at once may have %d", size>>20, int64(mostRecord)>>20)}
	}
	b = appendRecord(b, j.sum, after, batch)
	if j.buf = b; cap(b) > 4<<20 {
		j.buf = nil
	}
	if err := j.grow(j.at + int64(len(b))); err != nil {
		return err
	}
	if err := j.put(b, j.at); err != nil {
		return err
	}
	if err := j.flush(); err != nil {
		return err
	}
	if j.at += int64(len(b)); j.at == int64(len(b)) {
		j.shrink()
	}
	j.last = after + uint64(len(batch))
	return nil
}

// shrink gives back what a very large append took, once what the file had before is
// forgotten. If it fails the next one tries.
func (j *Journal) shrink() {
	if j.sizes[j.current] > 2*j.opts.Full+step && j.at <= j.opts.Full && j.files[j.current].Truncate(j.opts.Full) == nil {
		j.sizes[j.current] = j.opts.Full
		j.proven[j.current] = min(j.proven[j.current], j.opts.Full)
	}
}

// mostRecord is what an append may have: a record says its length in four bytes.
const mostRecord = 1 << 30

// sizeOf is about what an append has.
func sizeOf(batch []events.Event) (n int64) {
	for i := range batch {
		n += int64(len(batch[i].Data) + len(batch[i].Note) + len(batch[i].Asked))
	}
	return n
}

// unwritten is a failure before anything was written.
type unwritten struct{ error }

func (e unwritten) Unwrap() error { return e.error }

// Unwritten says that a failure of Write has nothing to do with what the disk keeps, and
// has left nothing behind.
func Unwritten(err error) bool {
	var u unwritten
	return errors.As(err, &u)
}

// piece is what room is made of, and how much of it at once.
var piece [64 << 10]byte

// grow makes room: what is written into it later is in its place already. That a file is
// long enough does not say that it is: a process that ended before it had synced that, or
// whoever put back a copy, may have left holes. So each process writes what it needs once
// itself: zeros, or what is there, which still tells that the file was used before.
func (j *Journal) grow(to int64) error {
	at := j.proven[j.current]
	if to <= at {
		return nil
	}
	j.grown = true
	f, step := j.files[j.current], min(step, j.opts.Full)
	var there []byte
	for end := at + (to-at+step-1)/step*step; at < end; {
		b := piece[:min(int64(len(piece)), end-at)]
		if left := j.sizes[j.current] - at; left > 0 {
			if there == nil {
				there = make([]byte, len(piece))
			}
			b = there[:min(int64(len(b)), left)]
			if _, err := f.ReadAt(b, at); err != nil {
				return noRoom("cannot read where something is to be appended", err)
			}
		}
		n, err := f.WriteAt(b, at)
		if err != nil {
			return noRoom("cannot make room for what is to be appended", err)
		}
		at += int64(n)
	}
	j.wrote(at)
	return nil
}

// noRoom is why there is none. Nothing has been appended then, but a disk that fails may have
// lost what was.
func noRoom(what string, err error) error {
	err = fmt.Errorf("%s: %w", what, err)
	if errors.Is(err, syscall.EIO) {
		return err
	}
	return unwritten{err}
}

// wrote takes note of how far the current file was written.
func (j *Journal) wrote(to int64) {
	j.proven[j.current], j.sizes[j.current] = max(j.proven[j.current], to), max(j.sizes[j.current], to)
}

func (j *Journal) put(b []byte, at int64) error {
	n, err := j.files[j.current].WriteAt(b, at)
	if err == nil {
		j.wrote(at + int64(len(b)))
		return nil
	}
	err = fmt.Errorf("cannot write what is to be appended: %w", err)
	if n == 0 && (errors.Is(err, os.ErrClosed) || errors.Is(err, syscall.EBADF)) {
		return unwritten{err}
	}
	return err
}

func (j *Journal) flush() error {
	for !j.opts.Unsynced {
		err := syscall.Fdatasync(int(j.files[j.current].Fd()))
		if err == nil && j.grown {
			err = durable.Confirm(j.files[j.current])
		}
		if err == nil {
			j.grown = false
			return nil
		}
		if err != syscall.EINTR {
			return fmt.Errorf("cannot sync what is to be appended: %w", err)
		}
	}
	return nil
}

// Close closes the files.
func (j *Journal) Close() error {
	var errs []error
	for _, f := range j.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
