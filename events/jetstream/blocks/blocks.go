// Package blocks reads the files in which JetStream keeps the log, without a server
// and without changing a byte of them: a server that starts on damaged files mends
// them, and what is evidence must stay as it was found. An auditor's machine reads a
// copy; on the cluster's own it reads beside the running server.
//
// The files are those of package blockfile. Beside its checksum, which is no secret and
// keeps nobody from altering it, each record must be, byte for byte, what its event is
// written as.
//
// What was appended last may not be in the blocks yet, and after a crash they may lack
// parts of it. It is in the journal of package intent. Without a server it is read from
// there. Beside one the blocks get it within moments, and must have it as the journal
// does: see beside.go.
package blocks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"strings"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/jetstream/blockfile"
	"github.com/reprise-run/reprise/events/jetstream/intent"
)

// Stream is the files of one stream.
type Stream struct {
	dir    string // the server's store directory
	name   string // of the stream
	prefix string // of its subjects
	blocks []blockfile.File
	bytes  int64
	// journal is what was to be appended last, in order and without a gap. The blocks
	// need not have it.
	journal []events.Event
	// beside says that a server runs, and patient how long it is waited for.
	beside  bool
	patient patience
}

// Open finds the files of the history in a server's store directory; prefix is that
// of jetstream.Config, "reprise" if empty.
func Open(dir, prefix string) (*Stream, error) {
	s := newStream(dir, prefix)
	records, err := intent.Read(dir, s.name)
	if err != nil {
		return nil, fmt.Errorf("cannot read the log: %w", err)
	}
	s.journal = eventsOf(records)
	return s, s.find()
}

func newStream(dir, prefix string) *Stream {
	if prefix == "" {
		prefix = "reprise"
	}
	return &Stream{dir: dir, name: strings.ToUpper(prefix), prefix: prefix}
}

func eventsOf(records []intent.Record) (all []events.Event) {
	for _, r := range records {
		all = append(all, r.Events...)
	}
	return all
}

// rest returns what the journal has from a sequence on, nothing if it lacks that.
func (s *Stream) rest(next uint64) []events.Event {
	if len(s.journal) == 0 || next < s.journal[0].Sequence || next-s.journal[0].Sequence >= uint64(len(s.journal)) {
		return nil
	}
	return s.journal[next-s.journal[0].Sequence:]
}

// find finds the blocks.
func (s *Stream) find() error {
	found, err := filepath.Glob(filepath.Join(s.dir, "jetstream", "*", "streams", s.name, "msgs"))
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("%s holds no log of Reprise: there are %d directories jetstream/*/streams/%s/msgs in it, and there must be one", s.dir, len(found), s.name)
	}
	// A list that is made while a file is replaced may lack it.
	for tries := 0; tries == 0 || s.beside && tries < 3 && s.lacksOne(); tries++ {
		if s.blocks, err = blockfile.List(found[0]); err != nil {
			return fmt.Errorf("cannot list the log's files: %w", err)
		}
	}
	s.bytes = 0
	for _, f := range s.blocks {
		s.bytes += f.Size
	}
	return nil
}

// lacksOne says that the numbers of the blocks do not follow each other.
func (s *Stream) lacksOne() bool {
	for i, f := range s.blocks {
		if f.Index != uint64(i)+1 {
			return true
		}
	}
	return false
}

// Len is how many blocks there are.
func (s *Stream) Len() int { return len(s.blocks) }

// Bytes is how large the blocks are together, as they are on disk.
func (s *Stream) Bytes() int64 { return s.bytes }

// Block is what was read of one block.
type Block struct {
	// Path is its file, and Size how large that is.
	Path string
	Size int64
	// Events are those up to what is wrong.
	Events []events.Event
	// Fault says what ends them, nil if nothing does. It speaks of the event after
	// the last of Events.
	Fault *Fault
}

// Fault says what is wrong with a block.
type Fault struct {
	// At is the offset in the block, after decompression.
	At     int
	Reason string
	// Tail says that nothing which can be read follows. At the end of the last block
	// that may be what a crash has left of an append that was never acknowledged.
	Tail bool
	// Torn says that it is no whole record, as a crash leaves it, too.
	Torn bool
	// Cut says that the block ends within the record, as far as can be told.
	Cut bool
	// Newer says that only a newer version of this program can read what is there.
	Newer error
}

// Read reads the i-th block.
func (s *Stream) Read(i int) (*Block, error) { return s.readFile(s.blocks[i]) }

func (s *Stream) readFile(f blockfile.File) (*Block, error) {
	content, err := read(f.Path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the log: %w", err)
	}
	b := Parse(content, s.prefix, f.Index)
	b.Path = f.Path
	return b, nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return blockfile.Read(f)
}

// Parse reads the content of a block, given the prefix of the stream's subjects and
// the block's number.
func Parse(content []byte, prefix string, index uint64) *Block {
	raw, reason := blockfile.Decompress(content)
	if len(raw) > blockfile.Largest {
		raw, reason = raw[:blockfile.Largest], fmt.Sprintf("the block has more than the %d bytes that one may have", blockfile.Largest)
	}
	check := checksum(prefix, index)
	p := parser{check: check, raw: raw, read: func(r record) (events.Event, error) {
		return jetstream.DecodeExact(prefix, r.Subject, r.Headers, r.Body, r.Sequence)
	}}
	b := &Block{Size: int64(len(content))}
	b.Events, b.Fault = p.all()
	switch {
	case reason == "":
	case b.Fault == nil:
		b.Fault = &Fault{At: len(raw), Reason: reason}
	default: // No crash of an append leaves that.
		b.Fault.Reason, b.Fault.Tail = b.Fault.Reason+", and "+reason, false
	}
	return b
}

// checksum is what makes the checksums of a block's records.
func checksum(prefix string, index uint64) hash.Hash64 {
	return blockfile.Checksum(strings.ToUpper(prefix), index)
}

// parser takes a block apart.
type parser struct {
	check hash.Hash64
	raw   []byte
	read  func(record) (events.Event, error)
	last  uint64 // the sequence of the last event read, 0 if none was
}

func (p *parser) all() (all []events.Event, fault *Fault) {
	all = make([]events.Event, 0, len(p.raw)/1200+16) // about as many as there are
	for at := 0; at < len(p.raw); {
		r, reason := p.record(at)
		torn := reason != ""
		var e events.Event
		var err error
		if !torn {
			e, reason, err = p.event(r)
		}
		if reason != "" || err != nil {
			return all, &Fault{At: at, Reason: reason, Newer: err, Torn: torn, Cut: torn && p.cut(at), Tail: reason != "" && !p.goesOn(at)}
		}
		all = append(all, e)
		p.last = e.Sequence
		at += r.Size
	}
	return all, nil
}

// record is one as it lies in a block.
type record = blockfile.Record

// record reads the one at an offset, or says why there is none.
func (p *parser) record(at int) (r record, reason string) {
	return blockfile.Parse(p.raw[at:], p.check)
}

// cut says whether the block ends within the record at an offset.
func (p *parser) cut(at int) bool {
	rest := p.raw[at:]
	return len(rest) < blockfile.Head || blockfile.SizeOf(rest) > int64(len(rest))
}

// searched is how often, on average, each byte of a block is looked at in search of a
// record.
const searched = 16

// goesOn says whether a whole record lies anywhere behind a bad one. Next to nothing
// that a crash leaves looks like the beginning of one; a block in which very much does
// was made to, and is not taken for what a crash leaves.
func (p *parser) goesOn(at int) bool {
	patience := searched * len(p.raw)
	for at++; at+blockfile.Head+blockfile.Check <= len(p.raw); at++ {
		// Most of what is no record is seen by its sequence.
		n := binary.LittleEndian.Uint64(p.raw[at+4:]) &^ (blockfile.Erased | blockfile.Tombstone)
		if n == 0 || p.last > 0 && (n <= p.last || n > p.last+1<<20) || n > 1<<48 {
			continue
		}
		r, reason := p.record(at)
		if patience -= r.Size; reason == "" || patience < 0 {
			return true
		}
	}
	return false
}

// event reads the event of a record, or says why it is none that this program wrote.
func (p *parser) event(r record) (e events.Event, reason string, err error) {
	if r.Sequence&(blockfile.Erased|blockfile.Tombstone) != 0 {
		return e, fmt.Sprintf("event %d was erased", r.Sequence&^(blockfile.Erased|blockfile.Tombstone)), nil
	}
	e, err = p.read(r)
	if errors.Is(err, events.ErrNewerLog) {
		return e, "", err
	}
	if err != nil {
		return e, err.Error(), nil
	}
	return e, "", nil
}
