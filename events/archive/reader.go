package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/reprise-run/reprise/events"
)

// Reader reads an archive from its beginning and checks all that it reads. What it
// cannot vouch for it does not return: it fails with ErrNotArchive, a *NewerError,
// a *DamageError, or what the underlying reader failed with.
type Reader struct {
	r      io.Reader
	unpack *unpacker
	header Header
	footer Footer

	offset  int64 // of the block being read
	passed  int64 // how many bytes have been read
	stage   byte  // the kind of the block before
	objects summary
	last    uint64
	chain   [32]byte
	more    bool
	run     int
	raw     uint64
	index   []byte // what the index must be
	before  int64
	blocks  uint64
	ahead   []events.Event // read by Objects and not yet yielded by Batches
	failure error
}

// Block is a piece of an archive: objects of the snapshot or events, never both.
// Their bytes are good until the next is read.
type Block struct {
	Objects []Object
	Events  []events.Event
}

// NewReader reads the beginning of an archive.
func NewReader(r io.Reader) (*Reader, error) {
	u, err := newUnpacker()
	if err != nil {
		return nil, err
	}
	a := &Reader{r: reading{r}, unpack: u}
	a.objects.sum = sha256.New()
	if err := a.begin(); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// Close gives memory back. It does not close what is read from.
func (a *Reader) Close() { a.unpack.zstd.Close() }

// Header is what the archive says of itself.
func (a *Reader) Header() Header { return a.header }

// Footer is what the archive says at its end. It is there once Next has returned
// io.EOF.
func (a *Reader) Footer() Footer { return a.footer }

// Last is the last event read, From-1 before the first.
func (a *Reader) Last() uint64 { return a.last }

// Passed is how many bytes of the file have been read.
func (a *Reader) Passed() int64 { return a.passed }

// begin reads the preamble and the header.
func (a *Reader) begin() error {
	start, err := a.take(preambleSize)
	if err := checkPreamble(start, err); err != nil {
		return err
	}
	h, plain, err := a.next()
	if err != nil {
		return a.damaged(head{}, err)
	}
	if h.kind != kindHeader {
		return a.damaged(head{}, errors.New("it has no header"))
	}
	a.stage = kindHeader
	var header Header
	if err := parseJSON(plain, &header); err != nil {
		return a.damaged(head{}, err)
	}
	if err := header.check(); err != nil {
		return a.damaged(head{}, err)
	}
	a.header, a.last, a.chain = header, header.From-1, header.Before
	return nil
}

// checkPreamble tells whether what was read, with what it failed, begins an archive.
func checkPreamble(b []byte, failed error) error {
	want := preamble()
	var outside *readError
	if errors.As(failed, &outside) {
		return outside.error
	}
	if len(b) == 0 {
		return fmt.Errorf("the file is empty: %w", ErrNotArchive)
	}
	if len(b) < preambleSize {
		if bytes.HasPrefix(want, b) {
			return &DamageError{Cut: true, Offset: int64(len(b)), Reason: "the file ends before its header"}
		}
		return ErrNotArchive
	}
	version, sum := binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
	if string(b[:8]) != magic {
		// Its own checksum tells a damaged archive from another file.
		if checksum(append([]byte(magic), b[8:12]...)) == sum {
			return &DamageError{Reason: "its first bytes are not those that were written"}
		}
		return ErrNotArchive
	}
	if checksum(b[:12]) != sum {
		return &DamageError{Reason: "its first bytes are not those that were written"}
	}
	if version > Version {
		return &NewerError{version}
	}
	if version == 0 {
		return &DamageError{Reason: "it says that it has format 0"}
	}
	return nil
}

// take reads n bytes.
func (a *Reader) take(n int) ([]byte, error) {
	b := make([]byte, n)
	got, err := io.ReadFull(a.r, b)
	a.passed += int64(got)
	return b[:got], err
}

// next reads a block.
func (a *Reader) next() (head, []byte, error) {
	a.offset = a.passed
	b, err := a.take(headSize)
	if err != nil {
		return head{}, nil, err
	}
	h, err := decodeHead(b)
	if err != nil {
		return head{}, nil, err
	}
	plain, n, err := a.unpack.unpack(a.r, h)
	a.passed += int64(n)
	return h, plain, err
}

// damaged says how far the archive is good and what is wrong with the block.
func (a *Reader) damaged(h head, err error) error {
	var outside *readError
	if errors.As(err, &outside) {
		return outside.error
	}
	d := &DamageError{From: a.header.From, To: a.header.To, Good: a.last, Offset: a.offset, Reason: err.Error()}
	var at *events.ChainError
	switch {
	case errors.As(err, &at):
		d.First, d.Last, d.Reason = at.Sequence, at.Sequence, at.Reason
	case h.kind == kindEvents && h.count > 0 && h.first == a.last+1:
		d.First, d.Last = h.first, min(h.first+uint64(h.count)-1, max(a.header.To, h.first))
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		d.Cut, d.Offset, d.Reason = true, a.passed, "the file ends there"
	case errors.Is(err, events.ErrNewerLog):
		return fmt.Errorf("the archive cannot be read after event %d: %w", a.last, err)
	}
	return d
}

// readError is a failure of what is read from, and none of the archive's.
type readError struct{ error }

// reading marks the failures of a reader, other than its end.
type reading struct{ io.Reader }

func (r reading) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = &readError{err}
	}
	return n, err
}

// Next returns the next block of objects or events. It ends with io.EOF, once the
// archive has been read to its end and all is as it was written.
func (a *Reader) Next() (Block, error) {
	if a.failure != nil {
		return Block{}, a.failure
	}
	b, err := a.read()
	a.failure = err
	return b, err
}

func (a *Reader) read() (Block, error) {
	h, plain, err := a.next()
	if err != nil {
		return Block{}, a.damaged(h, err)
	}
	var b Block
	switch {
	case h.kind == kindObjects && (a.stage == kindHeader || a.stage == kindObjects):
		b.Objects, err = a.takeObjects(h, plain)
	case h.kind == kindEvents && a.stage != kindIndex:
		if a.stage != kindEvents {
			err = a.snapshotEnds()
		}
		if err == nil {
			b.Events, err = a.takeEvents(h, plain)
		}
	case h.kind == kindIndex && a.stage == kindEvents:
		err = a.takeIndex(h, plain)
	case h.kind == kindFooter && a.stage == kindIndex:
		if err = a.takeFooter(plain); err == nil {
			return Block{}, io.EOF
		}
	default:
		err = fmt.Errorf("a block of kind %q is where none is expected", h.kind)
	}
	if err != nil {
		return Block{}, a.damaged(h, err)
	}
	if a.stage = h.kind; h.kind == kindIndex {
		return a.read()
	}
	return b, nil
}

func (a *Reader) takeObjects(h head, plain []byte) ([]Object, error) {
	if a.header.Snapshot == nil || h.first != a.objects.n || h.count == 0 || h.count > maxCount {
		return nil, errors.New("objects are where none are expected, or too many")
	}
	all := make([]Object, 0, min(int(h.count), len(plain)/minObject+1))
	for len(plain) > 0 {
		o, rest, err := cutObject(plain)
		if err != nil {
			return nil, err
		}
		if a.objects.n > 0 && a.objects.last.Compare(o.Ref) >= 0 {
			return nil, errors.New("its objects are not in order")
		}
		if !events.IsCanonical(o.Raw) {
			return nil, fmt.Errorf("%s is not in canonical JSON", o.Ref)
		}
		if o.Sequence >= a.header.From || o.Created > o.Sequence || o.Created == 0 {
			return nil, fmt.Errorf("%s is as of event %d, which is not before the archive's first", o.Ref, o.Sequence)
		}
		a.objects.add(plain[:len(plain)-len(rest)])
		a.objects.last = o.Ref
		all, plain = append(all, o), rest
	}
	if uint32(len(all)) != h.count {
		return nil, fmt.Errorf("it has %d objects where it says %d", len(all), h.count)
	}
	return all, nil
}

// minObject and minEvent are the least bytes of a record: they bound what a count
// can make us allocate.
const minObject, minEvent = 9, 1 + checkSize

func (a *Reader) snapshotEnds() error {
	got := a.objects.snapshot()
	if want := a.header.Snapshot; want != nil && got != *want {
		return fmt.Errorf("its snapshot is not the one that its header tells of: %d objects with the hash %s", got.Objects, got.Hash)
	}
	return nil
}

func (a *Reader) takeEvents(h head, plain []byte) ([]events.Event, error) {
	if h.count > maxCount {
		return nil, fmt.Errorf("it says that it has %d events, and a block has %d at most", h.count, maxCount)
	}
	if h.first != a.last+1 || h.count == 0 || len(plain) < len(a.chain) {
		return nil, fmt.Errorf("event %d should follow, and the block begins with event %d", a.last+1, h.first)
	}
	records, end := plain[:len(plain)-len(a.chain)], plain[len(plain)-len(a.chain):]
	all := make([]events.Event, 0, min(int(h.count), len(records)/minEvent+1))
	last, chain, more, run, raw := a.last, a.chain, a.more, a.run, a.raw
	for len(records) > 0 {
		sealed, check, rest, err := cutEvent(records)
		if err != nil {
			return nil, err
		}
		e, err := events.ParseSealed(sealed)
		if errors.Is(err, events.ErrNewerLog) {
			return nil, err
		}
		last++
		if err != nil {
			return nil, &events.ChainError{Sequence: last, Reason: err.Error()}
		}
		if e.Sequence != last {
			return nil, &events.ChainError{Sequence: last, Reason: fmt.Sprintf("the event there says sequence %d", e.Sequence)}
		}
		chain = events.LinkSealed(chain, sealed)
		if !bytes.Equal(chain[:checkSize], check) {
			return nil, &events.ChainError{Sequence: last, Reason: "it or an event before it is not what was appended to the log"}
		}
		if run++; run > events.MaxBatch {
			return nil, &events.ChainError{Sequence: last, Reason: fmt.Sprintf("its decision has more than %d events", events.MaxBatch)}
		}
		if more = e.More; !more {
			run = 0
		}
		e.Chain = chain
		raw += uint64(len(sealed))
		all, records = append(all, e), rest
	}
	switch {
	case uint32(len(all)) != h.count || last > a.header.To:
		return nil, fmt.Errorf("it has %d events where it says %d, and the archive ends with %d", len(all), h.count, a.header.To)
	case !bytes.Equal(chain[:], end):
		return nil, errors.New("its hash chain does not lead to where it says")
	}
	a.index = binary.AppendUvarint(a.index, uint64(h.count))
	a.index = binary.AppendUvarint(a.index, uint64(a.offset-a.before))
	a.before, a.blocks = a.offset, a.blocks+1
	a.last, a.chain, a.more, a.run, a.raw = last, chain, more, run, raw
	return all, nil
}

func (a *Reader) takeIndex(h head, plain []byte) error {
	if uint64(h.count) != a.blocks || h.first != a.header.From || !bytes.Equal(plain, a.index) {
		return errors.New("its index is not that of its blocks")
	}
	if a.last != a.header.To || a.more {
		return fmt.Errorf("its last event is %d, and it says that it ends with %d", a.last, a.header.To)
	}
	return nil
}

func (a *Reader) takeFooter(plain []byte) error {
	var f Footer
	if err := parseJSON(plain, &f); err != nil {
		return err
	}
	if f.Events != a.last-a.header.From+1 || f.Chain != a.chain || f.Raw != a.raw {
		return errors.New("its footer tells of other events")
	}
	at := a.offset
	a.offset = a.passed
	b, err := a.take(trailerSize)
	if err != nil {
		return err
	}
	if footer, err := parseTrailer(b); err != nil || footer != at {
		return errTrailer
	}
	a.offset = a.passed
	if _, err := a.take(1); err == nil {
		return errors.New("something follows its end")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	a.footer = f
	return nil
}
