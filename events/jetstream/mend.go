package jetstream

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/klauspost/compress/s2"
	"github.com/minio/highwayhash"
	"github.com/nats-io/nats-server/v2/server"
)

// JetStream compresses a block when it begins the next one. If a crash takes what
// the next one had, it goes on in the compressed one: it appends records as they are,
// at the place where they would be if nothing were compressed, and at the next start
// the block cannot be read. So a block in which it would go on is given back the form
// in which it was written.

// mend does so with the streams of a store directory that no server has open.
func mend(dir string) error {
	streams, err := streamDirs(dir)
	if err != nil {
		return err
	}
	for _, stream := range streams {
		if err := mendStream(stream); err != nil {
			return fmt.Errorf("cannot prepare the log for its start: %w", err)
		}
	}
	return nil
}

// mendStream looks at the blocks of a stream from the last one back, up to one that
// holds something.
func mendStream(dir string) error {
	name := filepath.Base(filepath.Dir(dir))
	blocks, err := blockFiles(dir)
	if err != nil {
		return err
	}
	for _, block := range slices.Backward(blocks) {
		compressed, holds, err := inspect(block, name)
		if err != nil {
			return err
		}
		if compressed {
			return unpack(block.path)
		}
		if holds {
			return nil
		}
	}
	return nil
}

// inspect says whether a block is compressed, and whether a whole record begins it.
func inspect(block blockFile, stream string) (compressed, holds bool, err error) {
	f, err := os.Open(block.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	defer f.Close()
	// Length, sequence, time and the length of the subject.
	head := make([]byte, 22)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, false, err
	}
	var info server.CompressionInfo
	if of, err := info.UnmarshalMetadata(head[:n]); of > 0 || err != nil {
		return true, true, nil
	}
	if n < len(head) {
		return false, false, nil
	}
	const hasHeaders = 1 << 31
	length := binary.LittleEndian.Uint32(head)
	size, subject := int64(length&^hasHeaders), int64(binary.LittleEndian.Uint16(head[20:]))
	if status, err := f.Stat(); err != nil || size < int64(len(head))+subject+8 || size > status.Size() {
		return false, false, err
	}
	rest := make([]byte, size-int64(len(head)))
	if _, err := io.ReadFull(f, rest); err != nil {
		return false, false, err
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", stream, block.index))
	sum, err := highwayhash.New64(key[:])
	if err != nil {
		return false, false, err
	}
	data, check := rest[:len(rest)-8], rest[len(rest)-8:]
	sum.Write(head[4:20])
	sum.Write(data[:subject])
	if data = data[subject:]; length&hasHeaders != 0 && len(data) >= 4 {
		data = data[4:]
	}
	sum.Write(data)
	return false, bytes.Equal(sum.Sum(nil), check), nil
}

// unpack replaces a compressed block by what was compressed.
func unpack(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var info server.CompressionInfo
	n, err := info.UnmarshalMetadata(content)
	if err != nil || len(content) < n+8 {
		// Damage is for the server to find.
		return nil
	}
	// The last checksum stands behind, as it was.
	end := len(content) - 8
	raw, err := io.ReadAll(s2.NewReader(bytes.NewReader(content[n:end])))
	if err != nil {
		return nil
	}
	if err := renameio.WriteFile(path, append(raw, content[end:]...), 0o640); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

type blockFile struct {
	path  string
	index uint64
}

// blockFiles lists the blocks of a stream, in order.
func blockFiles(dir string) ([]blockFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []blockFile
	for _, e := range entries {
		number, ok := strings.CutSuffix(e.Name(), ".blk")
		if index, err := strconv.ParseUint(number, 10, 32); ok && err == nil {
			all = append(all, blockFile{filepath.Join(dir, e.Name()), index})
		}
	}
	slices.SortFunc(all, func(a, b blockFile) int { return int(a.index) - int(b.index) })
	return all, nil
}

// streamDirs lists where the streams of a store directory have their blocks.
func streamDirs(dir string) ([]string, error) {
	return filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "*", "msgs"))
}
