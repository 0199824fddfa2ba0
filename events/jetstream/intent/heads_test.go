package intent

import (
	"errors"
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
					if err := j.Turn(); err != nil {
						t.Fatal(err)
					}
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
	if err := j.Turn(); err != nil {
		t.Fatal(err)
	}
	write(t, j, all, 3, 1000)
	path := Paths(dir, "S")[j.current]
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(content[:512])
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, dir, all)
}
