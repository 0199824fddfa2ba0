package jetstream

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/reprise-run/reprise/events/durable"
	"github.com/reprise-run/reprise/events/jetstream/blockfile"
)

// JetStream compresses a block when it begins the next one, where packer does not. If a
// crash takes what the next one had, it goes on in the compressed one: it appends records
// as they are, at the place where they would be if nothing were compressed, and at the next
// start the block cannot be read. So a block in which it would go on is given back the form
// in which it was written.

// mend does so with the streams of a store directory that no server has open.
func mend(dir string) error {
	streams, err := streamDirs(dir)
	if err != nil {
		return err
	}
	for _, stream := range streams {
		err := tidy(stream)
		if err == nil {
			err = cutTorn(dir, stream)
		}
		if err == nil {
			err = mendStream(stream)
		}
		if err != nil {
			return fmt.Errorf("cannot prepare the log for its start: %w", err)
		}
	}
	return nil
}

// tidy removes what a crash left of a block that was to take another's place: that may have
// aged away since, so that nobody writes it again.
func tidy(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, ".*.blk.new"))
	for _, path := range left {
		if err == nil {
			err = os.Remove(path)
		}
	}
	return err
}

// mendStream looks at the blocks of a stream from the last one back, up to one that
// holds something.
func mendStream(dir string) error {
	name := filepath.Base(filepath.Dir(dir))
	blocks, err := blockfile.List(dir)
	if err != nil {
		return err
	}
	for _, block := range slices.Backward(blocks) {
		compressed, holds, err := inspect(block, name)
		if err != nil {
			return err
		}
		if compressed {
			return unpack(block.Path)
		}
		if holds {
			return nil
		}
	}
	return nil
}

// inspect says whether a block is compressed, and whether a whole record begins it.
func inspect(block blockfile.File, stream string) (compressed, holds bool, err error) {
	f, err := os.Open(block.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	defer f.Close()
	head := make([]byte, blockfile.Head)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, false, err
	}
	if blockfile.Compressed(head[:n]) {
		return true, true, nil
	}
	size := blockfile.SizeOf(head[:n])
	if status, err := f.Stat(); err != nil || size == 0 || size > status.Size() {
		return false, false, err
	}
	record := append(head, make([]byte, size-int64(len(head)))...)
	if _, err := io.ReadFull(f, record[len(head):]); err != nil {
		return false, false, err
	}
	_, reason := blockfile.Parse(record, blockfile.Checksum(stream, block.Index))
	return false, reason == "", nil
}

// unpack replaces a compressed block by what was compressed.
func unpack(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	raw, reason := blockfile.Decompress(content)
	if reason != "" {
		// Damage is for the server to find.
		return nil
	}
	return durable.Replace(path, raw, 0o640)
}

// streamDirs lists where the streams of a store directory have their blocks.
func streamDirs(dir string) ([]string, error) {
	return filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "*", "msgs"))
}
