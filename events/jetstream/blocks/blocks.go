// Package blocks reads the files in which JetStream keeps the log, without a server
// and without changing a byte of them: a server that starts on damaged files mends
// them, and what is evidence must stay as it was found. An auditor's machine reads a
// copy; on the cluster's own it reads beside the running server.
//
// # The files
//
// As nats-server v2.15 writes them, <store>/jetstream/<account>/streams/<stream>/msgs
// has the blocks 1.blk, 2.blk and so on, each a run of records:
//
//	length (4)  sequence (8)  time (8)  length of subject (2)  subject
//	[length of headers (4)  headers]  body  checksum (8)
//
// Numbers are little-endian. The top bit of the length says that there are headers,
// and those of the sequence mark what was erased. The checksum is HighwayHash-64
// over sequence, time, subject, headers and body, its key the SHA-256 of
// "<stream>-<block>". A block that is full is compressed: "cmp", an algorithm, the
// size, an S2 stream, and the last checksum as it was. All other files can be made
// again from the blocks, and are not looked at.
//
// Beside the checksum, which is no secret and keeps nobody from altering a record,
// each record must be, byte for byte, what its event is written as.
package blocks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/s2"
	"github.com/minio/highwayhash"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
)

const (
	recordHead = 22
	checkSize  = 8
	// hasHeaders is the bit of a record's length.
	hasHeaders = 1 << 31
	// erased and tombstone are bits of a record's sequence.
	erased    = 1 << 63
	tombstone = 1 << 62
	// longest is what a record may have: NATS takes no larger message.
	longest = 32 << 20
	// largest is what a block may have, compressed or not. The server begins another
	// at 8 MB, with the record that goes beyond.
	largest = 64 << 20
)

// Stream is the files of one stream.
type Stream struct {
	name   string // of the stream
	prefix string // of its subjects
	blocks []file
	bytes  int64
}

type file struct {
	path  string
	index uint64
}

// Open finds the blocks of the history in a server's store directory; prefix is that
// of jetstream.Config, "reprise" if empty.
func Open(dir, prefix string) (*Stream, error) {
	if prefix == "" {
		prefix = "reprise"
	}
	s := &Stream{name: strings.ToUpper(prefix), prefix: prefix}
	found, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", s.name, "msgs"))
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%s holds no log of Reprise: there are %d directories jetstream/*/streams/%s/msgs in it, and there must be one", dir, len(found), s.name)
	}
	entries, err := os.ReadDir(found[0])
	if err != nil {
		return nil, fmt.Errorf("cannot list the log's files: %w", err)
	}
	for _, e := range entries {
		number, ok := strings.CutSuffix(e.Name(), ".blk")
		index, err := strconv.ParseUint(number, 10, 32)
		if !ok || err != nil {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("cannot list the log's files: %w", err)
		}
		s.bytes += info.Size()
		s.blocks = append(s.blocks, file{filepath.Join(found[0], e.Name()), index})
	}
	slices.SortFunc(s.blocks, func(a, b file) int { return int(a.index) - int(b.index) })
	return s, nil
}

// Len is how many blocks there are, and Bytes how large they are together.
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
	// Newer says that only a newer version of this program can read what is there.
	Newer error
}

// Read reads the i-th block.
func (s *Stream) Read(i int) (*Block, error) {
	f := s.blocks[i]
	content, err := read(f.path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the log: %w", err)
	}
	b := Parse(content, s.prefix, f.index)
	b.Path = f.path
	return b, nil
}

// read reads a file, and no more of it than shows that it is no block.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	content := bytes.NewBuffer(make([]byte, 0, min(info.Size(), largest)+bytes.MinRead))
	_, err = content.ReadFrom(io.LimitReader(f, largest+1))
	return content.Bytes(), err
}

// Parse reads the content of a block, given the prefix of the stream's subjects and
// the block's number.
func Parse(content []byte, prefix string, index uint64) *Block {
	raw, reason := decompress(content)
	if len(raw) > largest {
		raw, reason = raw[:largest], fmt.Sprintf("the block has more than the %d bytes that one may have", largest)
	}
	check := checksum(prefix, index)
	p := parser{check: check, raw: raw, read: func(r record) (events.Event, error) {
		return jetstream.DecodeExact(prefix, r.subject, r.headers, r.body, r.sequence)
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
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", strings.ToUpper(prefix), index))
	check, err := highwayhash.New64(key[:])
	if err != nil {
		panic(err) // the key has the right length
	}
	return check
}

// decompress returns a block as it was before it was compressed: as much of it as
// can be, and why not all.
func decompress(content []byte) (raw []byte, reason string) {
	var info server.CompressionInfo
	n, err := info.UnmarshalMetadata(content)
	if err != nil {
		return nil, "the block's head cannot be read: " + err.Error()
	}
	if n == 0 {
		return content, ""
	}
	if len(content) < n+checkSize {
		return nil, "the block is cut short"
	}
	end := len(content) - checkSize
	out := bytes.NewBuffer(make([]byte, 0, min(info.OriginalSize, largest)+bytes.MinRead))
	packed := s2.NewReader(bytes.NewReader(content[n:end]))
	// The size is what somebody wrote there, and a few bytes can stand for many.
	if _, err := io.Copy(out, io.LimitReader(packed, largest+1)); err != nil {
		return out.Bytes(), "the block cannot be decompressed from there on: " + err.Error()
	}
	out.Write(content[end:])
	return out.Bytes(), ""
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
		var e events.Event
		var err error
		if reason == "" {
			e, reason, err = p.event(r)
		}
		if reason != "" || err != nil {
			return all, &Fault{At: at, Reason: reason, Newer: err, Tail: reason != "" && !p.goesOn(at)}
		}
		all = append(all, e)
		p.last = e.Sequence
		at += r.size
	}
	return all, nil
}

// record is one as it lies in a block.
type record struct {
	size                   int
	sequence               uint64
	subject, headers, body []byte
}

// record reads the one at an offset, or says why there is none.
func (p *parser) record(at int) (r record, reason string) {
	rest := p.raw[at:]
	if len(rest) < recordHead+checkSize {
		return r, fmt.Sprintf("%d bytes are left, too few for an event", len(rest))
	}
	le := binary.LittleEndian
	length := le.Uint32(rest)
	with := length&hasHeaders != 0
	r.size = int(length &^ hasHeaders)
	r.sequence = le.Uint64(rest[4:])
	subject := int(le.Uint16(rest[20:]))
	least := recordHead + subject + checkSize
	if with {
		least += 4
	}
	if size := r.size; size < least || size > longest || size > len(rest) {
		r.size = 0
		return r, fmt.Sprintf("it says that it has %d bytes, which cannot be", size)
	}
	data := rest[recordHead : r.size-checkSize]
	p.check.Reset()
	p.check.Write(rest[4:20])
	p.check.Write(data[:subject])
	r.subject, data = data[:subject], data[subject:]
	if with {
		headers := le.Uint32(data)
		data = data[4:]
		p.check.Write(data)
		if uint64(headers) > uint64(len(data)) {
			return r, fmt.Sprintf("it says that its headers have %d bytes, which cannot be", headers)
		}
		r.headers, data = data[:headers], data[headers:]
	} else {
		p.check.Write(data)
	}
	r.body = data
	var sum [checkSize]byte
	if !bytes.Equal(p.check.Sum(sum[:0]), rest[r.size-checkSize:r.size]) {
		return r, "its checksum is not that of its content"
	}
	return r, ""
}

// searched is how often, on average, each byte of a block is looked at in search of a
// record.
const searched = 16

// goesOn says whether a whole record lies anywhere behind a bad one. Next to nothing
// that a crash leaves looks like the beginning of one; a block in which very much does
// was made to, and is not taken for what a crash leaves.
func (p *parser) goesOn(at int) bool {
	patience := searched * len(p.raw)
	for at++; at+recordHead+checkSize <= len(p.raw); at++ {
		// Most of what is no record is seen by its sequence.
		n := binary.LittleEndian.Uint64(p.raw[at+4:]) &^ (erased | tombstone)
		if n == 0 || p.last > 0 && (n <= p.last || n > p.last+1<<20) || n > 1<<48 {
			continue
		}
		r, reason := p.record(at)
		if patience -= r.size; reason == "" || patience < 0 {
			return true
		}
	}
	return false
}

// event reads the event of a record, or says why it is none that this program wrote.
func (p *parser) event(r record) (e events.Event, reason string, err error) {
	if r.sequence&(erased|tombstone) != 0 {
		return e, fmt.Sprintf("event %d was erased", r.sequence&^(erased|tombstone)), nil
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
