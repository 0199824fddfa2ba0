package archive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zstd"
)

// magic begins the file. Its first byte is no text, and its last ones change where
// line ends are rewritten on the way.
const magic = "\x89RPRS\r\n\n"

const (
	preambleSize = 16
	headSize     = 32
	trailerSize  = 16
	// maxBlock is the most bytes of a block, before compression and after. A block
	// ends with the event that makes it blockSize long; an event has 8 MB at most.
	maxBlock  = 32 << 20
	blockSize = 128 << 10
	// maxCount is the most events or objects of a block: more of the smallest do not
	// fit into twice blockSize.
	maxCount = 1 << 16
)

// The kinds of blocks, in the order in which a file has them.
const (
	kindHeader  = 'H' // one
	kindObjects = 'S' // of the snapshot
	kindEvents  = 'E'
	kindIndex   = 'I' // one
	kindFooter  = 'F' // one
)

// trailerMagic ends the file.
const trailerMagic = "END\n"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

func preamble() []byte {
	b := binary.BigEndian.AppendUint32([]byte(magic), Version)
	return binary.BigEndian.AppendUint32(b, checksum(b))
}

// head precedes each block's bytes.
type head struct {
	kind byte
	// stored is how many bytes follow, plain how many they are uncompressed.
	stored, plain uint32
	// first is the sequence of the block's first event, or for objects the number
	// of those before, and count how many are in it.
	first uint64
	count uint32
	sum   uint32 // over the stored bytes
}

func (h head) encode() []byte {
	b := append(make([]byte, 0, headSize), h.kind, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, h.stored)
	b = binary.BigEndian.AppendUint32(b, h.plain)
	b = binary.BigEndian.AppendUint64(b, h.first)
	b = binary.BigEndian.AppendUint32(b, h.count)
	b = binary.BigEndian.AppendUint32(b, h.sum)
	return binary.BigEndian.AppendUint32(b, checksum(b))
}

var errHead = errors.New("what should be the head of a block is none")

func decodeHead(b []byte) (head, error) {
	h := head{
		kind: b[0], stored: binary.BigEndian.Uint32(b[4:]), plain: binary.BigEndian.Uint32(b[8:]),
		first: binary.BigEndian.Uint64(b[12:]), count: binary.BigEndian.Uint32(b[20:]), sum: binary.BigEndian.Uint32(b[24:]),
	}
	if checksum(b[:headSize-4]) != binary.BigEndian.Uint32(b[headSize-4:]) || b[1]|b[2]|b[3] != 0 {
		return h, errHead
	}
	if h.stored > maxBlock || h.plain > maxBlock {
		return h, fmt.Errorf("a block says that it has %d bytes, and none has more than %d", max(h.stored, h.plain), maxBlock)
	}
	return h, nil
}

// trailer tells who has the whole file where its footer is.
func trailer(footer int64) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(footer))
	b = append(b, trailerMagic...)
	return binary.BigEndian.AppendUint32(b, checksum(b))
}

var errTrailer = errors.New("its last bytes are not the end of an archive")

func parseTrailer(b []byte) (footer int64, err error) {
	const sum = trailerSize - 4
	if string(b[8:sum]) != trailerMagic || checksum(b[:sum]) != binary.BigEndian.Uint32(b[sum:]) {
		return 0, errTrailer
	}
	return int64(binary.BigEndian.Uint64(b)), nil
}

// unpacker undoes the compression of blocks, in buffers that it uses again.
type unpacker struct {
	zstd   *zstd.Decoder
	stored []byte
	plain  []byte
}

func newUnpacker() (*unpacker, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxBlock), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, err
	}
	return &unpacker{zstd: z}, nil
}

// read reads n bytes into a buffer, which it may replace. It takes memory as bytes come, so that a length
// alone costs nothing.
func read(r io.Reader, buf []byte, n uint32) ([]byte, error) {
	const step = 1 << 20
	buf = buf[:0]
	for uint32(len(buf)) < n {
		from := len(buf)
		more := min(step, int(n)-from)
		if cap(buf)-from < more {
			buf = append(buf, make([]byte, more)...)
		}
		buf = buf[:from+more]
		if got, err := io.ReadFull(r, buf[from:]); err != nil {
			return buf[:from+got], err
		}
	}
	return buf, nil
}

// unpack reads the bytes of a block. They are good until the next call.
func (u *unpacker) unpack(r io.Reader, h head) (plain []byte, n int, err error) {
	u.stored, err = read(r, u.stored, h.stored)
	if err != nil {
		return nil, len(u.stored), err
	}
	if checksum(u.stored) != h.sum {
		return nil, len(u.stored), errors.New("its bytes are not those that were written")
	}
	// A buffer of the size that the head tells is all that there is to fill.
	if uint32(cap(u.plain)) < h.plain {
		u.plain = make([]byte, 0, h.plain)
	}
	plain, err = u.zstd.DecodeAll(u.stored, u.plain[:0:h.plain])
	if err != nil {
		return nil, len(u.stored), fmt.Errorf("it cannot be decompressed: %w", err)
	}
	if uint32(len(plain)) != h.plain {
		return nil, len(u.stored), fmt.Errorf("it has %d bytes where it says %d", len(plain), h.plain)
	}
	return plain, len(u.stored), nil
}
