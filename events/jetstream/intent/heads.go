package intent

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/reprise-run/reprise/events"
)

// A head is written at once with the first record behind it, and lies in one sector of
// the disk, so that no crash leaves a part of it. One that cannot be read is damaged, and
// must not take with it what was acknowledged. If two of its parts agree, they say what it
// was. Else its generation is that by whose key the first record is whole.

// headsOf returns the heads of both files; that of a file in which nothing was written
// has generation 0.
func headsOf(contents [2][]byte, dir, stream string) (heads [2]head, err error) {
	var known [2]bool
	for i, content := range contents {
		if known[i] = len(content) < headSize; !known[i] {
			heads[i], known[i] = parseHead(content)
		}
	}
	for i, content := range contents {
		if !known[i] {
			heads[i], known[i] = guess(content, stream, heads[1-i].generation)
		}
	}
	for i, content := range contents {
		if !known[i] && !blank(content, i, stream, heads[1-i]) {
			return heads, fmt.Errorf("the head of %s cannot be read, nor which records follow it, so that it is not known whether the log has all that was acknowledged: put back a copy of the data directory: %w", Paths(dir, stream)[i], events.ErrDamaged)
		}
	}
	return heads, nil
}

// parseHead reads that at the beginning of b. One of its parts may be damaged: its
// checksum tells what the others should be, and they are like no others.
func parseHead(b []byte) (head, bool) {
	generation := binary.BigEndian.Uint64(b[len(magic):])
	oldest := binary.BigEndian.Uint64(b[len(magic)+8:])
	read := head{generation, oldest}
	for _, h := range []head{read, {generation, generation}, {generation, generation - 1}, {oldest, oldest}, {oldest + 1, oldest}} {
		if sum := appendHead(nil, h)[headSize-8:]; h.generation > 0 && bytes.Equal(b[headSize-8:headSize], sum) {
			return h, true
		}
	}
	if string(b[:len(magic)]) == magic && generation > 0 && (oldest == generation || oldest == generation-1) {
		return read, true
	}
	return head{}, false
}

// sector is the least that a disk writes whole or not at all.
const sector = 512

// blank says that nothing was ever written to a file, or that a crash took the beginning of
// the first append to it, which was not acknowledged then; other is the head of the other
// file. It leaves zeros only in a file that was never used before.
func blank(content []byte, file int, stream string, other head) bool {
	if !zeros(content[:min(sector, len(content))]) || other.oldest < other.generation {
		return false // who turned from it to the other file had used it
	}
	if file == first {
		// Its head was on disk before anything was appended, be it to the other file.
		return other.generation == 0 && zeros(content)
	}
	// Whole records are those of earlier generations, or followed the one without its
	// beginning, which was acknowledged before they were written.
	sums := []hash.Hash64{checksum(stream, other.generation+1)}
	for n := uint64(1); n < other.generation && n <= mostApart; n++ {
		sums = append(sums, checksum(stream, other.generation-n))
	}
	_, used := find(content[headSize:], 0, sums...)
	return !used
}

func zeros(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// mostApart is how far the generations of the two files are sought apart: each start and
// each turn adds one.
const mostApart = 4096

// guess finds the head of a file whose own is damaged; other is the generation of the
// other file. That the files count which are older than this one is what it has if the
// log was not opened since, and does no harm else: the log has what was forgotten.
func guess(content []byte, stream string, other uint64) (head, bool) {
	b := content[headSize:]
	whole := func(generation uint64) bool {
		_, ok := payload(b, checksum(stream, generation))
		return ok
	}
	claimed := binary.BigEndian.Uint64(content[len(magic):])
	for _, generation := range []uint64{claimed, other + 1} {
		if generation > 0 && whole(generation) {
			return head{generation, generation - 1}, true
		}
	}
	for n := uint64(1); n <= mostApart; n++ {
		if whole(other + n) {
			return head{other + n, other + n - 1}, true
		}
		if n < other && whole(other-n) {
			return head{other - n, other - n - 1}, true
		}
	}
	return head{}, false
}
