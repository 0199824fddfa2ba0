package intent

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/reprise-run/reprise/events"
)

// A head is written at once with the first record behind it, and lies in one sector of
// the disk, so that no crash leaves a part of it. One that cannot be read is damaged, and
// must not take with it what was acknowledged. Its generation is that by whose key the
// first record is whole.

// headsOf returns the heads of both files; that of a file in which nothing was written
// has generation 0.
func headsOf(contents [2][]byte, dir, stream string) (heads [2]head, err error) {
	var good [2]bool
	for i, content := range contents {
		if len(content) < headSize {
			continue
		}
		var h head
		if h, good[i] = parseHead(content); good[i] {
			heads[i] = h
		}
	}
	for i, content := range contents {
		if good[i] || len(content) < headSize {
			continue
		}
		other := heads[1-i].generation
		h, ok := guess(content, stream, other)
		if !ok && !blank(content, stream, other) {
			return heads, fmt.Errorf("the head of %s cannot be read, nor which records follow it, so that it is not known whether the log has all that was acknowledged: put back a copy of the data directory: %w", Paths(dir, stream)[i], events.ErrDamaged)
		}
		heads[i] = h
	}
	return heads, nil
}

// blank says that nothing was written to a file, or that of the first append to it a crash
// took the beginning.
func blank(content []byte, stream string, other uint64) bool {
	if len(bytes.TrimLeft(content[:headSize], "\x00")) > 0 {
		return false
	}
	_, more := find(content[headSize:], checksum(stream, other+1), 0)
	return !more
}

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
