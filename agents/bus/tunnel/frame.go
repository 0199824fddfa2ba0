package tunnel

import (
	"encoding/binary"
	"errors"
)

// Each message is a frame: one byte that says what it is, four with its number,
// counted from 1 in each direction, and what it carries. NATS may lose messages
// when a connection breaks; the number shows it, and the tunnel fails rather than
// deliver bytes with a hole.
const (
	frameOpen   = 'o' // the listener has accepted
	frameData   = 'd' // bytes
	frameCredit = 'c' // four bytes: as many more may be sent
	frameFin    = 'f' // the writer has no more
	frameClose  = 'x' // the sender neither writes nor reads any more
	frameReset  = 'r' // the sender has failed, and why
	framePing   = 'p' // the sender is still there
)

const headerSize = 5

// window is how many bytes may be on the way in one direction, and chunk how many
// go in one frame: a slow reader holds at most a window in memory.
const (
	window = 1 << 20
	chunk  = 64 << 10
)

type frame struct {
	kind   byte
	number uint32
	body   []byte
}

func (f frame) encode() []byte {
	b := make([]byte, headerSize, headerSize+len(f.body))
	b[0] = f.kind
	binary.BigEndian.PutUint32(b[1:], f.number)
	return append(b, f.body...)
}

func parseFrame(b []byte) (frame, error) {
	if len(b) < headerSize {
		return frame{}, errors.New("a message of the tunnel is too short")
	}
	return frame{kind: b[0], number: binary.BigEndian.Uint32(b[1:]), body: b[headerSize:]}, nil
}
