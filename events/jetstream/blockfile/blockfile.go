// Package blockfile reads the files in which JetStream keeps the messages of a stream,
// without a server, and says what they are when they are compressed. events/jetstream and
// package blocks call it. It changes no file.
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
// "<stream>-<block>". A block that is full may be compressed: "cmp", an algorithm, the
// size, an S2 stream, and the last checksum as it was. All other files can be made
// again from the blocks.
package blockfile

import (
	"bytes"
	"cmp"
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
)

const (
	// Head and Check are how many bytes a record has before its subject and behind its
	// body.
	Head  = 22
	Check = 8
	// hasHeaders is the bit of a record's length.
	hasHeaders = 1 << 31
	// Erased and Tombstone are bits of a record's sequence.
	Erased    = 1 << 63
	Tombstone = 1 << 62
	// longest is what a record may have: NATS takes no larger message.
	longest = 32 << 20
	// full is about what a block has when the server begins another.
	full = 8 << 20
	// Largest is what a block may have, compressed or not. The server begins another
	// at 8 MB, with the record that goes beyond.
	Largest = 64 << 20
)

// File is a block's file.
type File struct {
	Path  string
	Index uint64
	Size  int64
}

// List lists the blocks in a directory, in order.
func List(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []File
	for _, e := range entries {
		number, ok := strings.CutSuffix(e.Name(), ".blk")
		index, err := strconv.ParseUint(number, 10, 32)
		if !ok || err != nil {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		all = append(all, File{filepath.Join(dir, e.Name()), index, info.Size()})
	}
	slices.SortFunc(all, func(a, b File) int { return cmp.Compare(a.Index, b.Index) })
	return all, nil
}

// Checksum is what makes the checksums of the records in a block of a stream.
func Checksum(stream string, index uint64) hash.Hash64 {
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", stream, index))
	check, err := highwayhash.New64(key[:])
	if err != nil {
		panic(err) // the key has the right length
	}
	return check
}

// Read reads a file, and no more of it than shows that it is no block.
func Read(r io.Reader) ([]byte, error) {
	size := int64(full)
	if f, ok := r.(*os.File); ok {
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		size = min(info.Size(), Largest)
	}
	content := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	_, err := content.ReadFrom(io.LimitReader(r, Largest+1))
	return content.Bytes(), err
}

// Compressed says that a block is.
func Compressed(content []byte) bool {
	var info server.CompressionInfo
	n, err := info.UnmarshalMetadata(content)
	return n > 0 || err != nil
}

// Decompress returns a block as it was before it was compressed: as much of it as
// can be, and why not all.
func Decompress(content []byte) (raw []byte, reason string) {
	var info server.CompressionInfo
	n, err := info.UnmarshalMetadata(content)
	if err != nil {
		return nil, "the block's head cannot be read: " + err.Error()
	}
	if n == 0 {
		return content, ""
	}
	if len(content) < n+Check {
		return nil, "the block is cut short"
	}
	end := len(content) - Check
	out := bytes.NewBuffer(make([]byte, 0, min(info.OriginalSize, Largest)+bytes.MinRead))
	packed := s2.NewReader(bytes.NewReader(content[n:end]))
	// The size is what somebody wrote there, and a few bytes can stand for many.
	if _, err := io.Copy(out, io.LimitReader(packed, Largest+1)); err != nil {
		return out.Bytes(), "the block cannot be decompressed from there on: " + err.Error()
	}
	out.Write(content[end:])
	return out.Bytes(), ""
}

// Compress writes a block of so many bytes as it is when it is compressed. It holds less
// than a megabyte of it at a time, and so does who reads what it wrote; JetStream's own
// way takes some twenty for a block of eight.
func Compress(to io.Writer, block io.ReaderAt, size int64) error {
	if size < Check {
		return fmt.Errorf("a block of %d bytes has no event", size)
	}
	info := server.CompressionInfo{Algorithm: server.S2Compression, OriginalSize: uint64(size)}
	if _, err := to.Write(info.MarshalMetadata()); err != nil {
		return err
	}
	packed := s2.NewWriter(to, s2.WriterConcurrency(1), s2.WriterBlockSize(piece))
	if _, err := io.Copy(packed, io.NewSectionReader(block, 0, size-Check)); err != nil {
		return errors.Join(err, packed.Close())
	}
	if err := packed.Close(); err != nil {
		return err
	}
	_, err := io.Copy(to, io.NewSectionReader(block, size-Check, Check))
	return err
}

// piece is how much is compressed at once.
const piece = 256 << 10

// Record is one as it lies in a block.
type Record struct {
	Size                   int
	Sequence               uint64
	Subject, Headers, Body []byte
}

// SizeOf is how large the record is that begins with head, 0 if that can be none.
func SizeOf(head []byte) int64 {
	if len(head) < Head {
		return 0
	}
	size := int64(binary.LittleEndian.Uint32(head) &^ hasHeaders)
	if least := Head + Check + int64(binary.LittleEndian.Uint16(head[20:])); size < least || size > longest {
		return 0
	}
	return size
}

// Parse reads the record at the beginning of rest, or says why there is none. Its Size
// is set if it could be one by its length.
func Parse(rest []byte, check hash.Hash64) (r Record, reason string) {
	if len(rest) < Head+Check {
		return r, fmt.Sprintf("%d bytes are left, too few for an event", len(rest))
	}
	le := binary.LittleEndian
	length := le.Uint32(rest)
	with := length&hasHeaders != 0
	r.Size = int(length &^ hasHeaders)
	r.Sequence = le.Uint64(rest[4:])
	subject := int(le.Uint16(rest[20:]))
	least := Head + subject + Check
	if with {
		least += 4
	}
	if size := r.Size; size < least || size > longest || size > len(rest) {
		r.Size = 0
		return r, fmt.Sprintf("it says that it has %d bytes, which cannot be", size)
	}
	data := rest[Head : r.Size-Check]
	check.Reset()
	check.Write(rest[4:20])
	check.Write(data[:subject])
	r.Subject, data = data[:subject], data[subject:]
	if with {
		headers := le.Uint32(data)
		data = data[4:]
		check.Write(data)
		if uint64(headers) > uint64(len(data)) {
			return r, fmt.Sprintf("it says that its headers have %d bytes, which cannot be", headers)
		}
		r.Headers, data = data[:headers], data[headers:]
	} else {
		check.Write(data)
	}
	r.Body = data
	var sum [Check]byte
	if !bytes.Equal(check.Sum(sum[:0]), rest[r.Size-Check:r.Size]) {
		return r, "its checksum is not that of its content"
	}
	return r, ""
}
