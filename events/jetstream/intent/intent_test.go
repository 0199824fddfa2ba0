package intent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
)

func batch(after uint64, n, size int) []events.Event {
	all := make([]events.Event, n)
	for i := range all {
		all[i] = events.Event{
			Sequence: after + 1 + uint64(i), Type: "pod.updated", Object: events.Ref{Resource: "pods", Namespace: "a", Name: fmt.Sprint(after, i)},
			Time: time.UnixMilli(1767323045000).UTC(), Data: bytes.Repeat([]byte{byte(after)}, size), Chain: [32]byte{byte(i), byte(after)}, More: i < n-1,
		}
	}
	return all
}

func open(t *testing.T, dir string, o Options) *Journal {
	t.Helper()
	j, _, err := Open(dir, "S", o)
	if err == nil {
		err = j.Reset()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

// expect checks that the files hold the events from one sequence to another.
func expect(t *testing.T, dir string, want []events.Event) {
	t.Helper()
	records, err := Read(dir, "S")
	if err != nil {
		t.Fatal(err)
	}
	var got []events.Event
	for _, r := range records {
		if len(r.Events) > 0 && r.Events[0].Sequence != r.After+1 {
			t.Errorf("the record after %d begins with %d", r.After, r.Events[0].Sequence)
		}
		got = append(got, r.Events...)
	}
	if len(got) != len(want) {
		t.Fatalf("the journal holds %d events, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].Chain != want[i].Chain || got[i].Text() != want[i].Text() || got[i].More != want[i].More {
			t.Fatalf("event %d is %s, want %s", i, got[i].Text(), want[i].Text())
		}
	}
}

func write(t *testing.T, j *Journal, all []events.Event, n, size int) []events.Event {
	t.Helper()
	next := batch(uint64(len(all)), n, size)
	if err := j.Write(uint64(len(all)), next); err != nil {
		t.Fatal(err)
	}
	return append(all, next...)
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	var all []events.Event
	for n := 1; n < 16; n++ {
		all = write(t, j, all, n, n*n*n)
		expect(t, dir, all)
	}
	moved := batch(0, 2, 10) // whatever sequences its events have
	if err := j.Write(uint64(len(all)), moved); err != nil {
		t.Fatal(err)
	}
	for i := range moved {
		moved[i].Sequence = uint64(len(all) + 1 + i)
	}
	expect(t, dir, append(all, moved...))
}

func TestTurning(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{Full: 10_000, Unsynced: true})
	var all []events.Event
	var begins []int // where a file begins
	for range 200 {
		if j.Full() {
			begins = append(begins, len(all))
			j.Turn()
			// Until something is written, nothing is forgotten.
		}
		all = write(t, j, all, 1+len(all)%3, 700)
		from := 0
		if n := len(begins); n > 1 {
			from = begins[n-2]
		}
		expect(t, dir, all[from:])
	}
	if len(begins) < 10 {
		t.Errorf("it turned %d times", len(begins))
	}
	if err := j.Reset(); err != nil {
		t.Fatal(err)
	}
	expect(t, dir, nil)
	first := len(all)
	all = write(t, j, all, 3, 10)
	expect(t, dir, all[first:])
	j = open(t, dir, Options{Full: 10_000, Unsynced: true})
	expect(t, dir, nil)
	first = len(all)
	all = write(t, j, all, 3, 10)
	expect(t, dir, all[first:])
}

// One append may be larger than a file is otherwise. The next ones make it smaller.
func TestALargeAppend(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{Full: 10_000, Unsynced: true})
	all := write(t, j, nil, 2, 3<<20)
	expect(t, dir, all)
	for range 2 {
		first := len(all)
		for range 2 {
			j.Turn()
			all = write(t, j, all, 1, 100)
		}
		expect(t, dir, all[first:])
	}
	for _, path := range Paths(dir, "S") {
		if info, err := os.Stat(path); err != nil || info.Size() > 2<<20 {
			t.Errorf("%s has %d bytes, %v", path, info.Size(), err)
		}
	}
}

// Of what a crash leaves of the last append nothing is read, and all before it is: it is
// as if it had not been written, wherever in the files it was to go.
func TestATornAppend(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	for range 60 {
		dir := t.TempDir()
		j := open(t, dir, Options{Full: int64(1000 + random.IntN(20_000)), Unsynced: true})
		var all []events.Event
		turned := 0
		write1 := func() {
			if j.Full() {
				turned = len(all)
				j.Turn()
			}
			all = write(t, j, all, 1+random.IntN(4), random.IntN(2000))
		}
		for range random.IntN(60) {
			write1()
		}
		before := contents(t, dir)
		n := len(all)
		write1()
		after := contents(t, dir)
		for i, path := range Paths(dir, "S") {
			torn := after[i]
			before := append(before[i], make([]byte, max(0, len(torn)-len(before[i])))...)
			whole := true
			for at := 0; at < len(torn); at = (at/512 + 1) * 512 {
				end := min((at/512+1)*512, len(torn))
				if random.IntN(3) == 0 && !bytes.Equal(torn[at:end], before[at:end]) {
					copy(torn[at:end], before[at:end])
					whole = false
				}
			}
			if err := os.WriteFile(path, torn, 0o600); err != nil {
				t.Fatal(err)
			}
			if !whole {
				all = all[:n]
			}
		}
		records, err := Read(dir, "S")
		if err != nil {
			t.Fatal(err)
		}
		var got []events.Event
		for _, r := range records {
			got = append(got, r.Events...)
		}
		if last := len(all); last > 0 && (len(got) == 0 || got[len(got)-1].Sequence != uint64(last)) {
			t.Fatalf("%d events are read, up to another than %d", len(got), last)
		}
		if len(got) > 0 && got[0].Sequence > uint64(turned)+1 && turned < n {
			t.Fatalf("they begin at %d, and the file was turned to at %d", got[0].Sequence, turned)
		}
		open(t, dir, Options{Unsynced: true}) // and it can be begun anew
		expect(t, dir, nil)
	}
}

// Acknowledged records behind one that is damaged are not dropped in silence.
func TestDamageIsNotTakenForTheEnd(t *testing.T) {
	for name, at := range map[string]int{"length": 0, "large length": 3, "checksum": 5, "sequence": recordHead + 7, "event": recordHead + 60} {
		t.Run(name, func(t *testing.T) {
			for n := range 4 { // which record is damaged
				dir := t.TempDir()
				j := open(t, dir, Options{Unsynced: true})
				var all []events.Event
				var begins []int64
				for range 4 {
					begins = append(begins, j.at)
					all = write(t, j, all, 3, 500)
				}
				begins[0] = int64(headSize)
				b := make([]byte, 1)
				file, offset := j.files[j.current], begins[n]+int64(at)
				if _, err := file.ReadAt(b, offset); err != nil {
					t.Fatal(err)
				}
				b[0] ^= 0x11
				if _, err := file.WriteAt(b, offset); err != nil {
					t.Fatal(err)
				}
				if n == 3 { // it may be torn
					expect(t, dir, all[:9])
					continue
				}
				if got, err := Read(dir, "S"); !errors.Is(err, events.ErrDamaged) {
					t.Errorf("record %d: %d are read, %v", n, len(got), err)
				}
				if _, _, err := Open(dir, "S", Options{}); !errors.Is(err, events.ErrDamaged) {
					t.Errorf("record %d: opened with %v", n, err)
				}
			}
		})
	}
}

func contents(t *testing.T, dir string) (all [][]byte) {
	t.Helper()
	for _, path := range Paths(dir, "S") {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, content)
	}
	return all
}

func TestFailures(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	all := write(t, j, nil, 2, 10)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0) // takes everything and syncs nothing
	if err != nil {
		t.Fatal(err)
	}
	file := j.files[j.current]
	j.files[j.current] = null
	if err := j.Write(2, batch(2, 1, 10)); err == nil || Unwritten(err) {
		t.Errorf("what cannot be synced is written with %v", err)
	}
	j.files[j.current] = file
	if err := errors.Join(null.Close(), file.Close()); err != nil {
		t.Fatal(err)
	}
	if err := j.Write(2, batch(2, 1, 10)); !Unwritten(err) {
		t.Errorf("a closed journal is written with %v", err)
	}
	expect(t, dir, all)
}

// A record says its length in four bytes.
func TestAnAppendWithoutMeasure(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	all := write(t, j, nil, 2, 10)
	large := batch(2, 40, 0)
	data := make([]byte, 30<<20)
	for i := range large {
		large[i].Data = data
	}
	if err := j.Write(2, large); !Unwritten(err) {
		t.Errorf("it is written with %v", err)
	}
	expect(t, dir, write(t, j, all, 1, 10))
}

// What a later version has written is not taken for nothing.
func TestANewerRecord(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	b := appendHead(nil, head{j.newest, j.oldest})
	at := len(b)
	b = appendRecord(b, j.sum, 0, batch(0, 1, 10))
	payload := b[at+recordHead:]
	payload[8+eventHead] = 255 // the event's first tag
	j.sum.Reset()
	j.sum.Write(payload)
	binary.BigEndian.PutUint64(b[at+4:], j.sum.Sum64())
	if _, err := j.files[j.current].WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir, "S"); !errors.Is(err, events.ErrNewerLog) {
		t.Errorf("it is read with %v", err)
	}
}
