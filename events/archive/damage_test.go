package archive_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/archive"
)

// TestEveryBit flips each bit of an archive in turn: none may change unnoticed, and
// what is said to be good must be what was written.
func TestEveryBit(t *testing.T) {
	all := history(60)
	from, to := ends(all, 20)+1, ends(all, 40)
	for name, file := range map[string][]byte{"the beginning": write(t, all, 1, to), "a part": write(t, all, from, to)} {
		for i := range len(file) * 8 {
			file[i/8] ^= 1 << (i % 8)
			_, got, _, err := contents(bytes.NewReader(file))
			checkDamage(t, fmt.Sprintf("%s, bit %d of byte %d", name, i%8, i/8), all, got, err)
			file[i/8] ^= 1 << (i % 8)
		}
	}
}

// TestEveryLength cuts an archive short at each byte.
func TestEveryLength(t *testing.T) {
	all := history(60)
	file := write(t, all, ends(all, 20)+1, ends(all, 40))
	for n := range file {
		_, got, _, err := contents(bytes.NewReader(file[:n]))
		var damage *archive.DamageError
		switch {
		case n == 0 && errors.Is(err, archive.ErrNotArchive):
		case n > 0 && errors.As(err, &damage) && damage.Cut && damage.Offset == int64(n):
		default:
			t.Errorf("cut to %d bytes of %d: %v", n, len(file), err)
		}
		checkDamage(t, fmt.Sprintf("cut to %d bytes", n), all, got, err)
	}
	if _, _, _, err := contents(io.MultiReader(bytes.NewReader(file), strings.NewReader("x"))); err == nil || !strings.Contains(err.Error(), "something follows its end") {
		t.Errorf("with a byte more: %v", err)
	}
}

// checkDamage checks that an archive that is not as it was written is refused, and
// that what was read of it is what was written.
func checkDamage(t *testing.T, what string, all, got []events.Event, err error) {
	t.Helper()
	var damage *archive.DamageError
	if err == nil || !errors.As(err, &damage) && !errors.Is(err, archive.ErrNotArchive) {
		t.Errorf("%s: %v", what, err)
		return
	}
	for i := range got {
		if want := all[got[i].Sequence-1]; got[i].Text() != want.Text() {
			t.Fatalf("%s: event %d is not what was written", what, want.Sequence)
		}
	}
	if damage != nil && len(got) > 0 && got[len(got)-1].Sequence > damage.Good {
		t.Errorf("%s: event %d was returned, and they are good up to %d", what, got[len(got)-1].Sequence, damage.Good)
	}
}

// TestDamageIsNamed looks at what people are told.
func TestDamageIsNamed(t *testing.T) {
	all := history(9000)
	file := write(t, all, 1, 9000)
	flip := func(at int) []byte {
		b := bytes.Clone(file)
		b[at] ^= 4
		return b
	}
	newer := binary.BigEndian.AppendUint32(bytes.Clone(file[:8]), 7)
	newer = binary.BigEndian.AppendUint32(newer, crc32.Checksum(newer, crc32.MakeTable(crc32.Castagnoli)))
	for name, c := range map[string]struct {
		file []byte
		want []string
	}{
		"in the middle":  {flip(len(file) / 2), []string{"is damaged in events ", "at byte ", "not those that were written", "its events 1 to "}},
		"cut short":      {file[:len(file)*2/3], []string{"is cut short in events ", fmt.Sprintf("at byte %d", len(file)*2/3), "the file ends there", "of 9000 are whole"}},
		"in the footer":  {flip(len(file) - 30), []string{"damaged", "all its events, 1 to 9000, are whole"}},
		"in the trailer": {flip(len(file) - 3), []string{"damaged", "all its events, 1 to 9000, are whole"}},
		"in the header":  {flip(60), []string{"damaged", "nothing of it can be used"}},
		"newer":          {append(newer, file[16:]...), []string{"has format 7", "upgrade reprise"}},
		"a picture":      {[]byte("\x89PNG\r\n\x1a\n0000IHDR0000000000"), []string{"not an archive", "reprise export"}},
		"a word":         {[]byte("hello"), []string{"not an archive"}},
		"nothing":        {nil, []string{"empty", "not an archive"}},
	} {
		_, _, _, err := contents(bytes.NewReader(c.file))
		if err == nil {
			t.Errorf("%s: it is read", name)
			continue
		}
		for _, part := range c.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: it does not say %q: %v", name, part, err)
			}
		}
		if newer := name == "newer"; errors.Is(err, events.ErrNewerLog) != newer {
			t.Errorf("%s: as an error of the log: %v", name, err)
		}
	}
}

// TestForged alters events and makes all checksums right again: then the chain
// tells, and names the event.
func TestForged(t *testing.T) {
	all := history(500)
	file := write(t, all, 1, 500)
	for _, at := range []uint64{1, 250, 500} {
		forged := reseal(t, file, func(kind byte, plain []byte) []byte {
			if kind != 'E' {
				return plain
			}
			audit := fmt.Sprintf("audit-%d", at)
			i := bytes.Index(plain, append([]byte{12, byte(len(audit))}, audit...))
			if i < 0 {
				t.Fatalf("event %d is not there", at)
			}
			plain[i+2] = 'A'
			return plain
		})
		_, _, _, err := contents(bytes.NewReader(forged))
		var damage *archive.DamageError
		if !errors.As(err, &damage) || damage.First != at || damage.Last != at {
			t.Errorf("event %d was altered: %v", at, err)
		}
	}
}

// reseal takes an archive apart and puts it together again with other contents and
// checksums that are right.
func reseal(t *testing.T, file []byte, change func(kind byte, plain []byte) []byte) []byte {
	t.Helper()
	pack, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	unpack, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unpack.Close()
	out := bytes.Clone(file[:16])
	rest := file[16:]
	for len(rest) > 16 {
		head := bytes.Clone(rest[:32])
		stored := binary.BigEndian.Uint32(head[4:])
		plain, err := unpack.DecodeAll(rest[32:32+stored], nil)
		if err != nil {
			t.Fatal(err)
		}
		plain = change(head[0], plain)
		out = append(out, block(head, pack.EncodeAll(plain, nil), len(plain))...)
		rest = rest[32+stored:]
	}
	return append(out, rest...)
}

// block puts a head before stored bytes.
func block(head, stored []byte, plain int) []byte {
	table := crc32.MakeTable(crc32.Castagnoli)
	binary.BigEndian.PutUint32(head[4:], uint32(len(stored)))
	binary.BigEndian.PutUint32(head[8:], uint32(plain))
	binary.BigEndian.PutUint32(head[24:], crc32.Checksum(stored, table))
	binary.BigEndian.PutUint32(head[28:], crc32.Checksum(head[:28], table))
	return append(head, stored...)
}

// TestHostile gives the reader what would cost it much if it believed it.
func TestHostile(t *testing.T) {
	all := history(60)
	file := write(t, all, 1, 60)
	headerEnds := 16 + 32 + int(binary.BigEndian.Uint32(file[16+4:]))
	pack, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	bomb := pack.EncodeAll(make([]byte, 512<<20), nil)
	head := func() []byte { return bytes.Clone(file[headerEnds : headerEnds+32]) }
	count := head()
	binary.BigEndian.PutUint32(count[20:], 1<<31)
	for name, tail := range map[string][]byte{
		"a bomb that says what it is":     block(head(), bomb, 512<<20),
		"a bomb that says it is small":    block(head(), bomb, 1000),
		"a bomb that says the most":       block(head(), bomb, 32<<20),
		"a length and nothing behind it":  block(head(), nil, 32<<20),
		"a count of two thousand million": block(count, pack.EncodeAll(make([]byte, 1000), nil), 1000),
		"such a count and the most bytes": block(count, pack.EncodeAll(make([]byte, 32<<20), nil), 32<<20),
	} {
		took := allocated(func() {
			if _, _, _, err := contents(io.MultiReader(bytes.NewReader(file[:headerEnds]), bytes.NewReader(tail))); err == nil {
				t.Errorf("%s is read", name)
			}
		})
		if took > 80<<20 {
			t.Errorf("%s takes %d MB", name, took>>20)
		}
	}
}

// TestDecisionWithoutEnd reads a decision that would fill the memory before it ends.
func TestDecisionWithoutEnd(t *testing.T) {
	const n = 30
	data := bytes.Repeat([]byte(" "), 15<<20)
	r, w := io.Pipe()
	go func() {
		a, err := archive.NewWriter(w, archive.Header{From: 1, To: n})
		var chain [32]byte
		for i := uint64(1); i <= n && err == nil; i++ {
			e := events.Event{Sequence: i, Type: "pod.created", More: i < n, Data: data}
			chain = events.Link(chain, &e)
			e.Chain = chain
			err = a.Append([]events.Event{e})
		}
		if err == nil {
			err = a.Close()
		}
		w.CloseWithError(err)
	}()
	a, err := archive.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var damage *archive.DamageError
	for _, err = range a.Batches() {
	}
	if !errors.As(err, &damage) || !strings.Contains(err.Error(), "a decision in it has more than 268435456 bytes") || a.Last() > 18 {
		t.Errorf("after event %d: %v", a.Last(), err)
	}
	r.CloseWithError(io.ErrClosedPipe)
}

// TestReadFails shows that a failure of the disk is not taken for damage.
func TestReadFails(t *testing.T) {
	file := write(t, history(60), 1, 60)
	broken := errors.New("the disk has gone")
	for _, n := range []int{0, 10, 40, len(file) / 2, len(file) - 5} {
		_, _, _, err := contents(io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(broken)))
		var damage *archive.DamageError
		if !errors.Is(err, broken) || errors.As(err, &damage) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	t := new(testing.T)
	all := history(60)
	f.Add(write(t, all, 1, 60))
	f.Add(write(t, all, ends(all, 20)+1, ends(all, 40)))
	f.Add([]byte("\x89RPRS\r\n\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		_, _, _, err := contents(bytes.NewReader(file))
		var damage *archive.DamageError
		var newer *archive.NewerError
		if err != nil && !errors.As(err, &damage) && !errors.As(err, &newer) && !errors.Is(err, archive.ErrNotArchive) && !errors.Is(err, events.ErrNewerLog) {
			t.Error(err)
		}
	})
}

// FuzzBlock hides what it is given from the checksums, which would refuse almost
// all of it.
func FuzzBlock(f *testing.F) {
	t := new(testing.T)
	all := history(60)
	file := write(t, all, ends(all, 20)+1, ends(all, 40))
	f.Add(byte('E'), uint64(23), uint32(10), []byte{1, 2, 3})
	f.Add(byte('S'), uint64(0), uint32(1), []byte("\x00\x04pods\x01a\x01b\x01u\x01\x01\x01\x02{}"))
	f.Add(byte('F'), uint64(0), uint32(0), []byte("{}"))
	headerEnds := 16 + 32 + int(binary.BigEndian.Uint32(file[16+4:]))
	f.Fuzz(func(t *testing.T, kind byte, first uint64, count uint32, plain []byte) {
		pack, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		head := binary.BigEndian.AppendUint64([]byte{kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, first)
		head = append(binary.BigEndian.AppendUint32(head, count), 0, 0, 0, 0, 0, 0, 0, 0)
		_, _, _, err = contents(io.MultiReader(bytes.NewReader(file[:headerEnds]), bytes.NewReader(block(head, pack.EncodeAll(plain, nil), len(plain)))))
		if err == nil {
			t.Error("a piece of an archive is read as a whole one")
		}
	})
}
