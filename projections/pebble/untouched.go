package pebble

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// DamagedError says that a projection cannot be read. It can be made again from the
// log.
type DamagedError struct{ Cause error }

func (e *DamagedError) Error() string {
	return fmt.Sprintf("the projection is damaged, and will be made anew from the log at the next start: %v", e.Cause)
}

func (e *DamagedError) Unwrap() error { return e.Cause }

// OpenUntouched opens the projection in a directory to be verified and asked, and
// changes nothing of it, whatever is found: Verify works in scratch instead. It
// fails with a *DamagedError if the projection cannot be read. No server may use it
// meanwhile.
func OpenUntouched(dir, scratch string) (s *Store, err error) {
	s = &Store{dir: dir, scratch: scratch, opts: Options{FS: untouched{vfs.Default}, Log: slog.New(slog.DiscardHandler), MemTable: 16 << 20}}
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("there is no projection to be verified: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, damageMark)); err == nil {
		return nil, &DamagedError{errFound}
	}
	s.marked.Store(true) // nothing is marked here
	lock, err := pebble.LockDirectory(dir, s.opts.FS)
	if err != nil {
		return nil, fmt.Errorf("cannot open the projection in %s: %w", dir, err)
	}
	defer lock.Close() // the database takes a reference of its own
	if err = s.openRead(lock); err != nil {
		return nil, err
	}
	if s.at, err = readCursor(s.db); err != nil {
		return nil, errors.Join(s.unreadable(err), s.db.Close())
	}
	s.folded.Store(s.at.sequence)
	return s, nil
}

// openRead opens the database, and changes nothing of it.
func (s *Store) openRead(lock *pebble.Lock) (err error) {
	defer func() {
		// Pebble takes some damage for a bug of its own.
		if p := recover(); p != nil {
			err = &DamagedError{fmt.Errorf("%v", p)}
		}
	}()
	s.gaveUp = make(chan struct{})
	s.db, err = pebble.Open(s.dir, &pebble.Options{
		FS: s.opts.FS, Lock: lock, ReadOnly: true, ErrorIfNotExists: true, Logger: (*logger)(s), DisableWAL: true,
		EventListener: &pebble.EventListener{}, FormatMajorVersion: pebble.FormatNewest,
	})
	if err != nil {
		return s.unreadable(err)
	}
	return nil
}

// stored opens the projection as its files have it: what is in use is read from memory,
// and may not have been read from there for long.
func (s *Store) stored() (stored pebble.Reader, err error) {
	if s.scratch != "" { // It was opened for that.
		return s.db.NewSnapshot(), nil
	}
	// A store of its own, for what is wrong with these files the one in use must find
	// itself.
	aside := &Store{dir: s.dir + ".stored", opts: Options{FS: s.opts.FS, Log: slog.New(slog.DiscardHandler)}}
	aside.marked.Store(true)
	remove := func() error { return s.opts.FS.RemoveAll(aside.dir) }
	if err = remove(); err == nil {
		err = s.flush()
	}
	if err == nil {
		err = s.db.Checkpoint(aside.dir) // whose tables are the same files
	}
	if err == nil {
		err = aside.openRead(nil)
	}
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	return &opened{aside.db, remove}, nil
}

// opened is a database whose directory goes with it.
type opened struct {
	*pebble.DB
	remove func() error
}

// Close is pebble.DB's.
func (o *opened) Close() error { return errors.Join(o.DB.Close(), o.remove()) }

// unreadable tells damage from what has its cause outside.
func (s *Store) unreadable(err error) error {
	if outside(err) {
		return fmt.Errorf("cannot read the projection in %s: %w", s.dir, err)
	}
	return &DamagedError{err}
}

// untouched is a file system of which nothing can be changed.
type untouched struct{ vfs.FS }

var errUntouched = errors.New("what is verified is not changed")

// Create is vfs.FS's, refused as all below that change something.
func (untouched) Create(string, vfs.DiskWriteCategory) (vfs.File, error) { return nil, errUntouched }

// Link is refused.
func (untouched) Link(string, string) error { return errUntouched }

// OpenReadWrite is refused.
func (untouched) OpenReadWrite(string, vfs.DiskWriteCategory, ...vfs.OpenOption) (vfs.File, error) {
	return nil, errUntouched
}

// Remove is refused.
func (untouched) Remove(string) error { return errUntouched }

// RemoveAll is refused.
func (untouched) RemoveAll(string) error { return errUntouched }

// Rename is refused.
func (untouched) Rename(string, string) error { return errUntouched }

// ReuseForWrite is refused.
func (untouched) ReuseForWrite(string, string, vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, errUntouched
}

// MkdirAll is refused.
func (untouched) MkdirAll(string, os.FileMode) error { return errUntouched }

// Lock keeps servers out, by a lock that is taken without writing.
func (untouched) Lock(name string) (io.Closer, error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return io.NopCloser(nil), nil
	}
	if err != nil {
		return nil, err
	}
	lock := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock); err != nil {
		f.Close()
		if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
			err = errInUse
		}
		return nil, err
	}
	return f, nil
}
