package main

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"
)

// Of a file's pages those are forgotten that are only the file's; what was written into
// memory, as the linker writes into that of a program that may lie anywhere, stays.
func TestWhatWasWrittenIsNotForgotten(t *testing.T) {
	size := 4 * os.Getpagesize()
	path := filepath.Join(t.TempDir(), "a program")
	content := bytes.Repeat([]byte{'f'}, size)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mapped := func(write bool) []byte {
		b, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Munmap(b) })
		for i := 0; i < size; i += os.Getpagesize() {
			if b[i] != 'f' {
				t.Fatal("the file is not mapped")
			}
		}
		if write {
			b[size/2] = 'w'
		}
		if err := syscall.Mprotect(b, syscall.PROT_READ); err != nil {
			t.Fatal(err)
		}
		return b
	}
	clean, written := mapped(false), mapped(true)
	if here, in := resident(t, clean), resident(t, written); here == 0 || in == 0 {
		t.Fatalf("%d and %d pages are resident before", here, in)
	}
	if err := forgetFile(path); err != nil {
		t.Fatal(err)
	}
	if n := resident(t, clean); n != 0 {
		t.Errorf("%d pages of the file are still resident", n)
	}
	if written[size/2] != 'w' || !bytes.Equal(clean, content) {
		t.Errorf("what was written reads %q", written[size/2])
	}
}

// resident is how many pages of b this process has.
func resident(t *testing.T, b []byte) (n int) {
	t.Helper()
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entries := make([]byte, 8*len(b)/os.Getpagesize())
	if _, err := f.ReadAt(entries, int64(uintptr(unsafe.Pointer(&b[0])))/int64(os.Getpagesize())*8); err != nil {
		t.Fatal(err)
	}
	for i := 7; i < len(entries); i += 8 {
		n += int(entries[i] >> 7)
	}
	return n
}

// The program of this test goes on.
func TestTheProgramIsForgotten(t *testing.T) {
	if err := forgetProgram(); err != nil {
		t.Fatal(err)
	}
}
