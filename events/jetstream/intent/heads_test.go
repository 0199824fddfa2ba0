package intent

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/reprise-run/reprise/events"
)

// What follows a damaged head is read all the same, whichever file it is of and however
// often the log was started.
func TestADamagedHead(t *testing.T) {
	for _, starts := range []int{1, 9} {
		for turns := range 3 {
			dir := t.TempDir()
			var j *Journal
			for range starts {
				j = open(t, dir, Options{Unsynced: true})
			}
			var all []events.Event
			first, begin := 0, 0 // of the events of both files, and of the newer one
			for turn := range turns + 1 {
				if turn > 0 {
					j.Turn()
					first, begin = begin, len(all)
				}
				for range 3 {
					all = write(t, j, all, 2, 300)
				}
			}
			whole := contents(t, dir)
			for file, path := range Paths(dir, "S") {
				if len(whole[file]) < headSize {
					continue
				}
				for at := 0; at < headSize; at += 3 {
					spoiled := append([]byte(nil), whole[file]...)
					spoiled[at] ^= 0x41
					if err := os.WriteFile(path, spoiled, 0o600); err != nil {
						t.Fatal(err)
					}
					expect(t, dir, all[first:])
				}
				// Without its first record nobody knows what it has.
				spoiled := append([]byte(nil), whole[file]...)
				for at := range headSize + 60 {
					spoiled[at] = 0x41
				}
				if err := os.WriteFile(path, spoiled, 0o600); err != nil {
					t.Fatal(err)
				}
				if got, err := Read(dir, "S"); !errors.Is(err, events.ErrDamaged) {
					t.Errorf("%d records are read, %v", len(got), err)
				}
				if _, _, err := Open(dir, "S", Options{}); !errors.Is(err, events.ErrDamaged) {
					t.Errorf("it is opened with %v", err)
				}
				if err := os.WriteFile(path, whole[file], 0o600); err != nil {
					t.Fatal(err)
				}
			}
			open(t, dir, Options{Unsynced: true})
			expect(t, dir, nil)
		}
	}
}

// A crash may take the beginning of the first append to a file, which was not acknowledged
// then, and not what else it has.
func TestAFirstAppendWithoutItsBeginning(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{Unsynced: true})
	all := write(t, j, nil, 3, 1000)
	j.Turn()
	write(t, j, all, 3, 1000)
	clearBeginning(t, dir, j)
	expect(t, dir, all)
}

// clearBeginning takes from the current file its first sector.
func clearBeginning(t *testing.T, dir string, j *Journal) {
	t.Helper()
	path := Paths(dir, "S")[j.current]
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(content[:min(sector, len(content))])
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A file that was used before has a head, whatever a crash leaves of an append to it: zeros
// in its place may hide what was acknowledged.
func TestZerosInAFileUsedBefore(t *testing.T) {
	turn := func(t *testing.T, j *Journal) {
		j.Turn()
	}
	for name, fill := range map[string]func(t *testing.T, dir string, after uint64) *Journal{
		"the first file": func(t *testing.T, dir string, after uint64) *Journal {
			return open(t, dir, Options{Unsynced: true})
		},
		"the first file, started again": func(t *testing.T, dir string, after uint64) *Journal {
			open(t, dir, Options{Unsynced: true})
			return open(t, dir, Options{Unsynced: true})
		},
		"turned several times": func(t *testing.T, dir string, after uint64) *Journal {
			j := open(t, dir, Options{Unsynced: true})
			for range 5 {
				writeAt(t, j, after, 3, 300)
				turn(t, j)
			}
			return j
		},
		"used before the last start": func(t *testing.T, dir string, after uint64) *Journal {
			j := open(t, dir, Options{Unsynced: true})
			turn(t, j)
			for range 8 {
				writeAt(t, j, after, 3, 300)
			}
			for range 9 {
				j = open(t, dir, Options{Unsynced: true})
			}
			writeAt(t, j, after, 3, 300)
			turn(t, j)
			return j
		},
		"with two appends": func(t *testing.T, dir string, after uint64) *Journal {
			j := open(t, dir, Options{Unsynced: true})
			turn(t, j)
			writeAt(t, j, after, 3, 300)
			return j
		},
	} {
		for _, after := range []uint64{100, 1 << 40} {
			t.Run(fmt.Sprint(name, " after ", after), func(t *testing.T) {
				dir := t.TempDir()
				j := fill(t, dir, after)
				writeAt(t, j, after+3, 3, 1000)
				clearBeginning(t, dir, j)
				if got, err := Read(dir, "S"); !errors.Is(err, events.ErrDamaged) {
					t.Errorf("%d records are read, %v", len(got), err)
				}
			})
		}
	}
}

func writeAt(t *testing.T, j *Journal, after uint64, n, size int) {
	t.Helper()
	if err := j.Write(after, batch(after, n, size)); err != nil {
		t.Fatal(err)
	}
}

// A damaged first record is not taken for the end, however long the log is.
func TestADamagedFirstRecord(t *testing.T) {
	for _, after := range []uint64{0, 1 << 40} {
		dir := t.TempDir()
		j := open(t, dir, Options{Unsynced: true})
		writeAt(t, j, after, 3, 300)
		writeAt(t, j, after+3, 3, 300)
		path := Paths(dir, "S")[j.current]
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		content[headSize+100] ^= 1
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(dir, "S"); !errors.Is(err, events.ErrDamaged) {
			t.Errorf("%d records are read, %v", len(got), err)
		}
	}
}

// A part of a head that is damaged is known by the others, also if no record follows, as
// when the log was shut down.
func TestAPartOfAHead(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{Unsynced: true})
	write(t, j, nil, 3, 300)
	if err := j.Reset(); err != nil {
		t.Fatal(err)
	}
	path := Paths(dir, "S")[j.current]
	whole := contents(t, dir)[j.current]
	for _, part := range [][2]int{{0, 16}, {16, 24}, {24, 32}, {32, 40}} {
		spoiled := append([]byte(nil), whole...)
		for at := part[0]; at < part[1]; at++ {
			spoiled[at] ^= 0x41
		}
		if err := os.WriteFile(path, spoiled, 0o600); err != nil {
			t.Fatal(err)
		}
		expect(t, dir, nil)
	}
	spoiled := append([]byte(nil), whole...)
	spoiled[0], spoiled[39] = 0, spoiled[39]^1
	if err := os.WriteFile(path, spoiled, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(dir, "S"); !errors.Is(err, events.ErrDamaged) {
		t.Errorf("%d records are read, %v", len(got), err)
	}
}
