package jetstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/durable"
	"github.com/reprise-run/reprise/events/jetstream/blockfile"
	"github.com/reprise-run/reprise/events/jetstream/intent"
)

// A power cut leaves of what was not synced any part: a block without its middle, or one
// block without that before it. JetStream goes on behind such a gap, and nothing can be
// put into it any more. What was not synced is in the journal. So before a server starts,
// the stream is cut off at the first gap behind which the journal has everything, and
// from there it is appended again.

// cutTorn does so with the stream whose blocks are in a directory; store is the server's.
func cutTorn(store, msgs string) error {
	stream := filepath.Base(filepath.Dir(msgs))
	journal, err := intent.Read(store, stream)
	if err != nil || len(journal) == 0 {
		return err
	}
	blocks, err := blockfile.List(msgs)
	if err != nil {
		return err
	}
	// What is on disk for certain ends here, at the latest.
	sound := journal[0].After
	first, err := beginOf(blocks, stream, sound)
	if err != nil {
		return err
	}
	gap, at, err := findGap(blocks[first:], stream, sound)
	if err != nil || gap < 0 {
		return err
	}
	last := journal[len(journal)-1].Last()
	if beyond, err := findBeyond(blocks[first+gap:], stream, last); err != nil {
		return err
	} else if beyond > 0 {
		return fmt.Errorf("stream %s breaks off before event %d, which can be read, and the journal ends at %d: %w", stream, beyond, last, events.ErrDamaged)
	}
	return cutOff(msgs, blocks[first+gap:], at)
}

// findBeyond returns an event of blocks that is behind a sequence, 0 if there is none.
// What lies between the events need not be readable.
func findBeyond(blocks []blockfile.File, stream string, last uint64) (uint64, error) {
	for _, file := range blocks {
		raw, err := load(file)
		if err != nil {
			return 0, err
		}
		check := blockfile.Checksum(stream, file.Index)
		for ; len(raw) >= blockfile.Head; raw = raw[1:] {
			// No hash is made of what cannot be one.
			sequence := binary.LittleEndian.Uint64(raw[4:])
			if sequence <= last || sequence > last+1<<32 || blockfile.SizeOf(raw) == 0 {
				continue
			}
			if r, reason := blockfile.Parse(raw, check); reason == "" {
				return r.Sequence, nil
			}
		}
	}
	return 0, nil
}

// beginOf returns which block has the event after a sequence, if one has, or one before
// that.
func beginOf(blocks []blockfile.File, stream string, after uint64) (int, error) {
	for i, file := range slices.Backward(blocks) {
		raw, err := load(file)
		if err != nil {
			return 0, err
		}
		r, reason := blockfile.Parse(raw, blockfile.Checksum(stream, file.Index))
		if reason == "" && r.Sequence <= after+1 {
			return i, nil
		}
	}
	return 0, nil
}

// findGap returns in which block the run of records breaks off, and where in it, if that
// is behind a sequence; -1 if it does not, or where nothing may be changed.
func findGap(blocks []blockfile.File, stream string, sound uint64) (block int, at int64, err error) {
	next := uint64(0)
	for i, file := range blocks {
		raw, err := load(file)
		if err != nil {
			return -1, 0, err
		}
		check := blockfile.Checksum(stream, file.Index)
		for at := 0; at < len(raw) || len(raw) == 0; {
			r, reason := blockfile.Parse(raw[at:], check)
			if reason == "" && (r.Sequence == next || next == 0 && r.Sequence <= sound+1) {
				next = r.Sequence + 1
				at += r.Size
				continue
			}
			if next == 0 && sound > 0 || next > 0 && next <= sound {
				return -1, 0, nil // damage of what was on disk is for the server to find
			}
			return i, int64(at), nil
		}
	}
	return -1, 0, nil
}

// load returns the content of a block as it was before it was compressed, as much of it
// as can be.
func load(file blockfile.File) ([]byte, error) {
	f, err := os.Open(file.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := blockfile.Read(f)
	if err != nil {
		return nil, err
	}
	raw, _ := blockfile.Decompress(content)
	return raw, nil
}

// cutOff takes from the blocks of a stream what lies behind an offset in the first of
// them.
func cutOff(msgs string, blocks []blockfile.File, at int64) error {
	// The index tells of what is taken away.
	doomed := []string{filepath.Join(msgs, "index.db")}
	for _, file := range slices.Backward(blocks[1:]) {
		doomed = append(doomed, file.Path)
	}
	if at == 0 {
		doomed = append(doomed, blocks[0].Path)
	}
	for _, path := range doomed {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if at > 0 {
		if err := shorten(blocks[0], at); err != nil {
			return err
		}
	}
	return durable.SyncDir(msgs)
}

// shorten leaves of a block what lies before an offset, uncompressed.
func shorten(file blockfile.File, at int64) error {
	raw, err := load(file)
	if err != nil {
		return err
	}
	return durable.Replace(file.Path, raw[:at], 0o640)
}
