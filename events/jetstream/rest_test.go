package jetstream

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// swap has the open files of a stream's blocks be another one: those that are written, or
// those that are only read.
func swap(t *testing.T, l *Log, path string, written bool) {
	t.Helper()
	by, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer by.Close()
	swapped := 0
	for fd := range 1000 {
		path, err := os.Readlink(fmt.Sprint("/proc/self/fd/", fd))
		if err != nil || !strings.HasPrefix(path, l.own.msgs) || !strings.HasSuffix(path, ".blk") {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil {
			t.Fatal(err)
		}
		if (flags&unix.O_ACCMODE != unix.O_RDONLY) != written {
			continue
		}
		if err := unix.Dup3(int(by.Fd()), fd, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		swapped++
	}
	if swapped == 0 {
		t.Fatal("no block is open")
	}
}

// What fails after the last append is noticed although nothing is appended any more.
func TestWhatFailsLastFailsTheServer(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, l *Log){
		"write": func(t *testing.T, l *Log) { swap(t, l, "/dev/full", true) },
		"sync":  func(t *testing.T, l *Log) { swap(t, l, os.DevNull, false) },
	} {
		t.Run(name, func(t *testing.T) {
			l := openNew(t)
			l.own.quiet = time.Hour
			var chain [32]byte
			all := appendTo(t, l, nil, decision(&chain, 0, 3))
			if err := l.own.harden(t.Context(), 3); err != nil {
				t.Fatal(err)
			}
			spoil(t, l)
			l.own.quiet = time.Millisecond
			appendTo(t, l, all, decision(&chain, 3, 1))
			select {
			case <-l.own.server.Failed():
				t.Log(l.own.server.Err())
			case <-time.After(20 * time.Second):
				t.Fatal("nobody has noticed")
			}
			if err := l.own.server.Err(); !strings.Contains(err.Error(), "see that the disk is sound and has room, and start again") {
				t.Errorf("it says: %v", err)
			}
			if _, err := l.Last(t.Context()); err == nil {
				t.Error("the log says where it ends")
			}
		})
	}
}

// A log at rest is on disk, and is not read again.
func TestALogAtRestIsOnDisk(t *testing.T) {
	l := openNew(t)
	l.own.quiet = time.Millisecond
	var chain [32]byte
	var all []int64
	for last := uint64(0); last < 6; last += 2 {
		if _, err := l.Append(t.Context(), last, decision(&chain, last, 2)); err != nil {
			t.Fatal(err)
		}
		for !l.own.blocks.has(last + 2) {
			select {
			case <-l.own.server.Failed():
				t.Fatal(l.own.server.Err())
			case <-time.After(time.Millisecond):
			}
		}
		l.own.mu.Lock()
		hardened := l.own.hardened
		l.own.mu.Unlock()
		select {
		case <-hardened:
		case <-l.own.server.Failed():
			t.Fatal(l.own.server.Err())
		}
		l.own.mu.Lock()
		files := l.own.blocks.files
		all = append(all, files[len(files)-1].read)
		l.own.mu.Unlock()
	}
	if all[0] == 0 || all[1] <= all[0] || all[2] <= all[1] {
		t.Errorf("the block was read up to %v", all)
	}
}
