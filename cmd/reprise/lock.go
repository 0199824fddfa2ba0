package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lock keeps two servers from one data directory: two writers on one JetStream
// store would damage it. The kernel releases it when the process ends, however
// it ends.
type lock struct{ file *os.File }

const lockName = "lock"

// acquireLock takes the data directory, or says who has it.
func acquireLock(dataDir string) (*lock, error) {
	err := os.MkdirAll(dataDir, 0o700)
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, fmt.Errorf("the data directory %s cannot be made, because a file is in its place: give --data-dir another name", dataDir)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make the data directory %s: %w", dataDir, err)
	}
	path := filepath.Join(dataDir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the lock of the data directory: %w", err)
	}
	if err := await(f); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot lock %s: %w", path, err)
		}
		pid, _ := os.ReadFile(path)
		return nil, fmt.Errorf("a server runs on %s (process %s): stop it first, or give --data-dir another directory",
			dataDir, strings.TrimSpace(string(pid)))
	}
	if err := errors.Join(f.Truncate(0), writePID(f)); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot write %s: %w", path, err), f.Close())
	}
	return &lock{file: f}, nil
}

// dying is how long a server that was killed, or told to stop, a moment ago may take to let
// go. A second server that is one too many hears so only then: that the first one lives does
// not say that it will stay, and who ends one and starts another need not wait himself.
const dying = 2 * time.Second

// await takes the lock as soon as it is free, which may be when a process that
// was killed a moment ago is gone.
func await(f *os.File) error {
	for deadline := time.Now().Add(dying); ; time.Sleep(20 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(deadline) {
			return err
		}
	}
}

func writePID(f *os.File) error {
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// Close gives the data directory back.
func (l *lock) Close() error { return l.file.Close() }
