// Package intent keeps, in two files beside a log, what is about to be appended to it.
// What was written there is on disk, so that the log itself may be written without a
// sync for each append: after a crash it is made whole from there. events/jetstream writes
// it, and package blocks reads it. It never touches the log's own files.
//
// # The files
//
// intent-<stream>.0 and .1 each begin with a head:
//
//	"reprise intent" and a version   16 bytes
//	generation                        8
//	oldest generation that counts     8
//	checksum of these                 8
//
// Records follow, one for each append, up to the first that is none of the file's
// generation. Each was synced before the next was written, so that one behind something
// else shows that this is damaged, and not the end:
//
//	length of what follows the checksum   4
//	checksum of what follows              8
//	sequence before                       8
//	each event: length                    4, chain 32, its encoding (events.AppendSealed)
//
// Numbers are big-endian. Checksums are HighwayHash-64; the key of those of records is
// made of the stream and the generation, so that what is left of an earlier generation
// is no record. The file of the higher generation goes on where the other one ends.
// They are written again and again in the same place, so that a sync changes nothing but
// their bytes.
package intent

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/minio/highwayhash"

	"github.com/reprise-run/reprise/events"
)

const (
	magic      = "reprise intent\x00\x01"
	headSize   = len(magic) + 8 + 8 + 8
	recordHead = 4 + 8
	eventHead  = 4 + 32
)

// Record is one append.
type Record struct {
	After  uint64 // the sequence before its first event
	Events []events.Event
}

// Last is the sequence of a record's last event.
func (r *Record) Last() uint64 { return r.After + uint64(len(r.Events)) }

// Paths are where the files of a stream are.
func Paths(dir, stream string) [2]string {
	base := filepath.Join(dir, "intent-"+stream)
	return [2]string{base + ".0", base + ".1"}
}

// Read returns the records of a stream, in order and without a gap, each event with its
// sequence. It changes nothing, and may be called beside a process that writes: what is
// being written is read whole or not at all.
func Read(dir, stream string) ([]Record, error) {
	r, err := read(dir, stream)
	// A writer that turns to the other file between the reading of both leaves a gap, and
	// one that writes while a file is read may seem to have left something out.
	for tries := 1; tries < 3 && (r.gap || errors.Is(err, events.ErrDamaged)); tries++ {
		r, err = read(dir, stream)
	}
	return r.records, err
}

// looks is how often what is written meanwhile is read at most. Next to always the first
// time will do.
const looks = 20

// ReadBeside is Read beside a process that has Reset the journal and writes to it. Since
// then there was no crash, and all that counts must be readable: what is not is a *Damage,
// also where a crash may leave the same. It is told once two looks in a row have shown it:
// what was half written at the time of the first was written, or forgotten, before the
// second.
func ReadBeside(dir, stream string) ([]Record, error) {
	var seen error
	for range looks {
		r, err := read(dir, stream)
		if err == nil {
			err = r.passed
		}
		if !errors.Is(err, events.ErrDamaged) {
			return r.records, err
		}
		if seen != nil && seen.Error() == err.Error() {
			return nil, err
		}
		seen = err
	}
	return nil, fmt.Errorf("what was appended last cannot be read beside who appends: each of %d times it was another: %w", looks, seen)
}

// Damage says that something that was appended cannot be read, and what follows can.
type Damage struct {
	path string
	// After is the last event before it, 0 if that is not known, and Through the last that
	// it can have.
	After, Through uint64
}

func (d *Damage) Error() string {
	return fmt.Sprintf("%s: what was appended after sequence %d cannot be read, and is followed by what was appended after %d: %v", d.path, d.After, d.Through, events.ErrDamaged)
}

// Unwrap says that it is events.ErrDamaged.
func (d *Damage) Unwrap() error { return events.ErrDamaged }

// reading is what was read of both files.
type reading struct {
	records []Record
	newest  uint64 // the highest generation
	gap     bool   // the files do not follow each other
	// passed is a *Damage of what a crash may have left so, and Read passes over.
	passed error
}

func read(dir, stream string) (r reading, err error) {
	var contents [2][]byte
	paths := Paths(dir, stream)
	for i, path := range paths {
		contents[i], err = os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return r, fmt.Errorf("cannot read what was to be appended: %w", err)
		}
	}
	heads, err := headsOf(contents, dir, stream)
	if err != nil {
		return r, err
	}
	var parts [2][]Record
	var damage [2]*Damage
	for i, path := range paths {
		parts[i], err = parse(contents[i], heads[i], stream, path)
		if err != nil && !errors.As(err, &damage[i]) {
			return r, fmt.Errorf("%s: %w", path, err)
		}
	}
	older, newer := 0, 1
	if heads[older].generation > heads[newer].generation {
		older, newer = newer, older
	}
	if heads[older].generation < heads[newer].oldest {
		parts[older], damage[older] = nil, nil
	}
	if d := damage[newer]; d != nil {
		if n := len(parts[older]); d.After == 0 && n > 0 {
			d.After = parts[older][n-1].Last()
		}
		return r, d
	}
	r.newest = heads[newer].generation
	// What a crash leaves of the first write after a turn damages what is forgotten. If it
	// is not that, the log is seen not to reach to what the newer one has.
	if damage[older] != nil {
		r.passed, parts[older] = damage[older], nil
	}
	for _, record := range append(parts[older], parts[newer]...) {
		if n := len(r.records); n > 0 && r.records[n-1].Last() != record.After {
			r.passed = &Damage{paths[older], r.records[n-1].Last(), record.After}
			r.records, r.gap = nil, true // what is before the gap is not needed any more
		}
		r.records = append(r.records, record)
	}
	return r, nil
}

// parse reads a file up to the first record that is not whole, which must be its end. If
// one follows it fails with a *Damage.
func parse(content []byte, h head, stream, path string) (all []Record, err error) {
	if h.generation == 0 {
		return nil, nil
	}
	sum := checksum(stream, h.generation)
	for b := content[headSize:]; ; {
		payload, ok := payload(b, sum)
		if !ok {
			last := uint64(0)
			if n := len(all); n > 0 {
				last = all[n-1].Last()
			}
			if through, found := find(b, last, sum); found {
				if last == 0 {
					last = claimed(b, through)
				}
				return all, &Damage{path, last, through}
			}
			return all, nil
		}
		r, err := parseRecord(payload)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
		b = b[recordHead+len(payload):]
	}
}

// claimed is after which event a damaged record says that it is, which is so if as many
// events as it has come from there to the next record; else 0.
func claimed(b []byte, next uint64) uint64 {
	size := int64(binary.BigEndian.Uint32(b))
	if size < 8 || size > int64(len(b)-recordHead) {
		return 0
	}
	after, n := binary.BigEndian.Uint64(b[recordHead:]), uint64(0)
	for b = b[recordHead+8 : recordHead+size]; len(b) >= eventHead; n++ {
		length := int64(binary.BigEndian.Uint32(b))
		if length > int64(len(b)-eventHead) {
			return 0
		}
		b = b[eventHead+length:]
	}
	if len(b) > 0 || after+n != next {
		return 0
	}
	return after
}

// payload returns that of the record at the beginning of b.
func payload(b []byte, sum hash.Hash64) ([]byte, bool) {
	if len(b) < recordHead+8 {
		return nil, false
	}
	size := int64(binary.BigEndian.Uint32(b))
	if size < 8 || size > int64(len(b)-recordHead) {
		return nil, false
	}
	p := b[recordHead : recordHead+size]
	sum.Reset()
	sum.Write(p)
	return p, sum.Sum64() == binary.BigEndian.Uint64(b[4:])
}

// find looks for a record anywhere behind the beginning of b, whole by one of the keys, and
// returns the sequence before it, which must be higher than one, 0 if that is not known.
func find(b []byte, than uint64, sums ...hash.Hash64) (after uint64, found bool) {
	for at := 1; at < len(b)-recordHead-8-eventHead; at++ {
		// No hash is made of what cannot be a record.
		size, after := int64(binary.BigEndian.Uint32(b[at:])), binary.BigEndian.Uint64(b[at+recordHead:])
		if size < 8+eventHead || size > int64(len(b)-at-recordHead) || than > 0 && (after <= than || after-than > mostLost) {
			continue
		}
		if !addsUp(b[at+recordHead+8 : int64(at+recordHead)+size]) {
			continue
		}
		for _, sum := range sums {
			if _, ok := payload(b[at:], sum); ok {
				return after, true
			}
		}
	}
	return 0, false
}

// addsUp says that the lengths of a record's events do.
func addsUp(b []byte) bool {
	for len(b) >= eventHead {
		n := int64(binary.BigEndian.Uint32(b))
		if n > int64(len(b)-eventHead) {
			return false
		}
		b = b[eventHead+n:]
	}
	return len(b) == 0
}

// mostLost is how many events what cannot be read has at most.
const mostLost = 1 << 32

var errRecord = errors.New("what was to be appended cannot be read: its lengths do not add up")

func parseRecord(b []byte) (Record, error) {
	r := Record{After: binary.BigEndian.Uint64(b)}
	for b = b[8:]; len(b) > 0; {
		if len(b) < eventHead {
			return r, errRecord
		}
		n := int64(binary.BigEndian.Uint32(b))
		if n > int64(len(b)-eventHead) {
			return r, errRecord
		}
		e, err := events.ParseSealed(b[eventHead : eventHead+n])
		if err != nil {
			return r, fmt.Errorf("what was to be appended cannot be read: %w", err)
		}
		copy(e.Chain[:], b[4:eventHead])
		r.Events = append(r.Events, e)
		b = b[eventHead+n:]
	}
	return r, nil
}

// appendRecord encodes an append behind b.
func appendRecord(b []byte, sum hash.Hash64, after uint64, batch []events.Event) []byte {
	head := len(b)
	b = append(b, make([]byte, recordHead)...)
	b = binary.BigEndian.AppendUint64(b, after)
	for i := range batch {
		e := &batch[i]
		sequence := e.Sequence
		at := len(b)
		b = append(append(b, 0, 0, 0, 0), e.Chain[:]...)
		if want := after + 1 + uint64(i); sequence != want {
			moved := *e
			moved.Sequence = want
			e = &moved
		}
		b = e.AppendSealed(b)
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-eventHead))
	}
	payload := b[head+recordHead:]
	binary.BigEndian.PutUint32(b[head:], uint32(len(payload)))
	sum.Reset()
	sum.Write(payload)
	binary.BigEndian.PutUint64(b[head+4:], sum.Sum64())
	return b
}

// head is that of a file.
type head struct{ generation, oldest uint64 }

func appendHead(b []byte, h head) []byte {
	b = binary.BigEndian.AppendUint64(append(b, magic...), h.generation)
	b = binary.BigEndian.AppendUint64(b, h.oldest)
	return binary.BigEndian.AppendUint64(b, highwayhash.Sum64(b[len(b)-headSize+8:], make([]byte, highwayhash.Size)))
}

func checksum(stream string, generation uint64) hash.Hash64 {
	key := sha256.Sum256(fmt.Appendf(nil, "%s/%d", stream, generation))
	sum, err := highwayhash.New64(key[:])
	if err != nil {
		panic(err) // the key has the right length
	}
	return sum
}
