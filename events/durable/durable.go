// Package durable writes files that a loss of power must not take. All that is to outlive
// one, and is not JetStream's or Pebble's, goes through here: keys, checkpoints, archives,
// the log's journal. It knows nothing of what it writes.
package durable

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Confirm fails if what a sync has just said may not be so, of the file or of any other
// on its file system. ext4 says that a file is synced when there is nothing left to be
// done for it, and so also where that was given up: its journal has failed, on behalf of
// another file, and with it went how long this one is and where it lies. It notices that
// when something about a file is to change, as its time, and says so the next time. What
// is written in its place needs no journal, and is durable when it is synced.
//
// The time is set to now, which whoever may write the file can do, and not its owner alone.
// A file system that sets no times is not ext4, and is believed.
func Confirm(f *os.File) error {
	for range 2 {
		if err := unix.Futimes(int(f.Fd()), nil); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return os.NewSyscallError("futimes", err)
		}
	}
	return nil
}

// SyncDir makes durable which files a directory has, and confirms it.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err = d.Sync(); err == nil {
		err = Confirm(d)
	}
	return errors.Join(err, d.Close())
}

// Replace gives a file another content, in one step: whatever happens it has the one or the
// other, and this one when Replace returns without an error. Of each file there is one who
// does so at a time.
func Replace(path string, content []byte, mode os.FileMode) error {
	return ReplaceBy(path, mode, func(to io.Writer) error {
		_, err := to.Write(content)
		return err
	})
}

// ReplaceBy is Replace with what write writes, which need not be in memory at once. If write
// fails the file stays as it is.
func ReplaceBy(path string, mode os.FileMode, write func(to io.Writer) error) error {
	dir, name := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	// What a crash leaves of it the next one takes.
	temporary := filepath.Join(dir, "."+name+".new")
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	err = write(f)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return SyncDir(dir)
}
