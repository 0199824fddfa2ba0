package intent

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A file that is longer than what was synced of it, by a process that ended meanwhile, counts
// as grown when it is its turn.
func TestAFileIsConfirmedWhenItIsItsTurn(t *testing.T) {
	j := open(t, t.TempDir(), Options{Full: 4096})
	for range 4 {
		if j.grown {
			t.Error("what was written was not confirmed")
		}
		j.Turn()
		if !j.grown {
			t.Error("the other file counts as confirmed, and nothing is known of it")
		}
		if err := j.Write(j.last, batch(j.last, 1, 10)); err != nil {
			t.Fatal(err)
		}
	}
}

// What is appended goes where this process has written something before: a crash, or who
// copied the files back, may have left holes where they are long enough.
func TestRoomHasNoHoles(t *testing.T) {
	dir := t.TempDir()
	for _, path := range Paths(dir, "S") {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, 4*step); err != nil {
			t.Fatal(err)
		}
	}
	j := open(t, dir, Options{Full: 4 * step})
	for range 2 {
		for _, size := range []int{1000, step} {
			if err := j.Write(j.last, batch(j.last, 1, size)); err != nil {
				t.Fatal(err)
			}
			hole, err := unix.Seek(int(j.files[j.current].Fd()), 0, unix.SEEK_HOLE)
			if want := (j.at + step - 1) / step * step; err != nil || hole < want {
				t.Errorf("after %d bytes there is a hole at %d (%v), and none was to be before %d", j.at, hole, err, want)
			}
			if j.grown {
				t.Error("that was not confirmed")
			}
		}
		j.Turn()
	}
}

// What lies where something is to be appended stays until then: it tells that the file was
// used before.
func TestRoomKeepsWhatWasThere(t *testing.T) {
	dir := t.TempDir()
	path := Paths(dir, "S")[first]
	before := open(t, dir, Options{})
	if err := before.Write(0, batch(0, 500, 1000)); err != nil {
		t.Fatal(err)
	}
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	j, _, err := Open(dir, "S", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	j.current = first
	if err := j.grow(100); err != nil {
		t.Fatal(err)
	}
	if is, err := os.ReadFile(path); err != nil || !bytes.Equal(was, is) {
		t.Errorf("the file has %d bytes and had %d (%v), or others", len(is), len(was), err)
	}
}

// What a first append makes room for leaves the file's head, which Reset has put on disk.
func TestRoomLeavesTheHead(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{Unsynced: true})
	if err := j.grow(3 * step); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(Paths(dir, "S")[j.current])
	if err != nil {
		t.Fatal(err)
	}
	if h, known := parseHead(content); !known || h.generation != j.newest {
		t.Errorf("its head is %+v (%v), want generation %d", h, known, j.newest)
	}
}
