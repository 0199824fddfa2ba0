package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/reprise-run/reprise/events"
)

// Writer writes an archive: the objects of the snapshot, the events, and then
// Close. It holds one block.
type Writer struct {
	w      io.Writer
	header Header
	zstd   *zstd.Encoder
	packed []byte

	offset  int64
	block   []byte
	count   uint32
	index   []byte
	blocks  uint64
	before  int64 // offset of the event block before
	objects summary

	last    uint64
	chain   [32]byte
	more    bool // the last event's decision goes on
	run     int  // how long it is so far
	footer  Footer
	sealed  []byte
	failure error
}

// NewWriter begins an archive with its header.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("no archive can be written: %w", err)
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(blockSize), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return nil, err
	}
	h.Created = h.Created.UTC()
	a := &Writer{w: w, header: h, zstd: z, last: h.From - 1, chain: h.Before}
	a.objects.sum = sha256.New()
	a.write(preamble())
	a.writeJSON(kindHeader, h)
	return a, a.failure
}

// Object adds one object of the snapshot. They come in the order of
// events.Ref.Compare, before the first event.
func (a *Writer) Object(o *Object) error {
	switch {
	case a.last >= a.header.From:
		return errors.New("an object of the snapshot came after the first event")
	case a.objects.n > 0 && a.objects.last.Compare(o.Ref) >= 0:
		return fmt.Errorf("%s came after %s", o.Ref, a.objects.last)
	}
	record := appendObject(nil, o)
	if len(record) > maxBlock/2 {
		return fmt.Errorf("%s has %d bytes, which is more than an archive takes", o.Ref, len(record))
	}
	a.objects.add(record)
	a.objects.last = o.Ref
	a.block = append(a.block, record...)
	a.count++
	if len(a.block) >= blockSize {
		a.flush(kindObjects, a.objects.n-uint64(a.count))
	}
	return a.failure
}

// Append adds events that follow those before, and refuses those that do not, or
// that are not what was appended to the log: then it fails with an
// *events.ChainError.
func (a *Writer) Append(batch []events.Event) error {
	if a.last < a.header.From {
		if err := a.snapshotEnds(); err != nil {
			return err
		}
	}
	for i := range batch {
		if err := a.append(&batch[i]); err != nil {
			return err
		}
	}
	return a.failure
}

func (a *Writer) append(e *events.Event) error {
	if e.Sequence != a.last+1 {
		return &events.ChainError{Sequence: a.last + 1, Reason: fmt.Sprintf("the event there says sequence %d", e.Sequence)}
	}
	if e.Sequence > a.header.To {
		return fmt.Errorf("event %d is past the archive's end, %d", e.Sequence, a.header.To)
	}
	a.sealed = e.AppendSealed(a.sealed[:0])
	if len(a.sealed) > maxBlock/2 {
		return fmt.Errorf("event %d has %d bytes, which is more than an archive takes", e.Sequence, len(a.sealed))
	}
	chain := events.LinkSealed(a.chain, a.sealed)
	if chain != e.Chain {
		return &events.ChainError{Sequence: e.Sequence, Reason: "it or an event before it is not what was appended"}
	}
	a.more = e.More
	if a.run++; a.run > events.MaxBatch {
		return fmt.Errorf("the decision that event %d is part of has more than %d events", e.Sequence, events.MaxBatch)
	}
	if !a.more {
		a.run = 0
	}
	a.last, a.chain = e.Sequence, chain
	a.block = appendEvent(a.block, a.sealed, chain)
	a.footer.Raw += uint64(len(a.sealed))
	a.count++
	if len(a.block) >= blockSize {
		a.flushEvents()
	}
	return nil
}

// snapshotEnds writes the rest of the snapshot, and holds it to the header.
func (a *Writer) snapshotEnds() error {
	if a.count > 0 {
		a.flush(kindObjects, a.objects.n-uint64(a.count))
	}
	got := a.objects.snapshot()
	if want := a.header.Snapshot; want != nil && got != *want {
		return fmt.Errorf("the snapshot is not the one that the header tells of: %d objects with the hash %s", got.Objects, got.Hash)
	}
	if a.header.Snapshot == nil && got.Objects > 0 {
		return errors.New("an archive that begins with the log has no snapshot")
	}
	return a.failure
}

// flushEvents writes a block of events, which ends with the last one's chain.
func (a *Writer) flushEvents() {
	a.block = append(a.block, a.chain[:]...)
	first := a.last - uint64(a.count) + 1
	a.index = binary.AppendUvarint(a.index, uint64(a.count))
	a.index = binary.AppendUvarint(a.index, uint64(a.offset-a.before))
	a.before = a.offset
	a.blocks++
	a.flush(kindEvents, first)
}

// Close writes what an archive ends with. It does not close what is written to.
func (a *Writer) Close() error {
	switch {
	case a.failure != nil:
		return a.failure
	case a.last != a.header.To:
		return fmt.Errorf("the archive was to end with event %d, and ends with %d", a.header.To, a.last)
	case a.more:
		return fmt.Errorf("the archive ends in the middle of a decision, with event %d", a.last)
	}
	if a.count > 0 {
		a.flushEvents()
	}
	a.block, a.count = append(a.block, a.index...), uint32(a.blocks)
	a.flush(kindIndex, a.header.From)
	a.footer.Events, a.footer.Chain = a.last-a.header.From+1, a.chain
	at := a.offset
	a.writeJSON(kindFooter, a.footer)
	a.write(trailer(at))
	return a.failure
}

func (a *Writer) writeJSON(kind byte, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		a.failure = errors.Join(a.failure, err)
		return
	}
	a.block = append(a.block, bytes.TrimSpace(text)...)
	a.flush(kind, 0)
}

// flush writes the block and begins the next.
func (a *Writer) flush(kind byte, first uint64) {
	a.packed = a.zstd.EncodeAll(a.block, a.packed[:0])
	if len(a.block) > maxBlock || len(a.packed) > maxBlock {
		a.failure = errors.Join(a.failure, fmt.Errorf("a block has %d bytes, which is more than an archive takes", len(a.block)))
	}
	h := head{
		kind: kind, stored: uint32(len(a.packed)), plain: uint32(len(a.block)), first: first, count: a.count,
		sum: checksum(a.packed),
	}
	a.write(h.encode())
	a.write(a.packed)
	a.block, a.count = a.block[:0], 0
}

// write remembers the first failure, after which nothing is written.
func (a *Writer) write(b []byte) {
	if a.failure != nil {
		return
	}
	n, err := a.w.Write(b)
	a.offset += int64(n)
	if err != nil {
		a.failure = err
	}
}

// Written says how many bytes the archive has so far.
func (a *Writer) Written() int64 { return a.offset }
