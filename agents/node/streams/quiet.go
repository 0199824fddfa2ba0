package streams

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// quiet is a connection to the runtime's streaming server that keeps SPDY pings
// from it and answers them itself.
//
// The server closes its connection as soon as a command has ended, though the
// kernel may still have megabytes to send to a slow reader. Anything that comes
// in after that makes the kernel drop them and reset the connection: a ping, which
// clients send every five seconds, would cut the end off what a command printed.
type quiet struct {
	net.Conn
	sent frames // what the client sends; its writer's own
	held []byte // the ping that is coming in

	mu       sync.Mutex
	received frames // what the runtime sends, as far as it was read
	answers  []byte // to pings, for the next gap between frames
}

// quietly dials the runtime.
var quietly = &http.Transport{
	DisableKeepAlives: true,
	DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &quiet{Conn: conn}, nil
	},
}

// Write passes on all but pings.
func (c *quiet) Write(p []byte) (int, error) {
	var out []byte
	for rest := p; len(rest) > 0; {
		at := c.sent.place()
		n, headed := c.sent.take(rest)
		switch {
		case at == inHeader && !headed:
			// Not yet known what it is.
		case at == inHeader && c.sent.ping:
			c.held = append(c.held, c.sent.head[:]...)
		case at == inHeader:
			out = append(out, c.sent.head[:]...)
		case at == inFrame && c.sent.ping:
			c.held = append(c.held, rest[:n]...)
		default:
			out = append(out, rest[:n]...)
		}
		if rest = rest[n:]; len(c.held) > 0 && c.sent.left == 0 {
			c.answer()
		}
	}
	if len(out) > 0 {
		if _, err := c.Conn.Write(out); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// answer has the ping that came in answered: the answer is the same frame.
func (c *quiet) answer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers, c.held = append(c.answers, c.held...), nil
	// Whoever waits in Read is to look again. If that fails the connection has, and
	// reading says so.
	_ = c.Conn.SetReadDeadline(time.Unix(1, 0))
}

// Read returns what the runtime sends, and between its frames the answers.
func (c *quiet) Read(p []byte) (int, error) {
	for {
		n, limit := c.gap(p)
		if n > 0 || len(p) == 0 {
			return n, nil
		}
		n, err := c.Conn.Read(p[:limit])
		c.mu.Lock()
		for got := p[:n]; len(got) > 0; {
			k, _ := c.received.take(got)
			got = got[k:]
		}
		if again := n == 0 && errors.Is(err, os.ErrDeadlineExceeded); again {
			err = c.Conn.SetReadDeadline(time.Time{})
		}
		c.mu.Unlock()
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// gap fills p with answers if this is the place for them. Otherwise it says how
// much may be read until there is one.
func (c *quiet) gap(p []byte) (n, limit int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.answers) == 0 {
		return 0, len(p)
	}
	switch c.received.place() {
	case inHeader:
		if c.received.have > 0 {
			return 0, min(len(p), frameHeader-c.received.have)
		}
		n = copy(p, c.answers)
		c.answers = c.answers[n:]
		return n, 0
	case inFrame:
		return 0, min(len(p), c.received.left)
	}
	return 0, len(p)
}

// frames follows one direction of a connection: the head of an HTTP message, and
// then SPDY frames, each a header of eight bytes and what it says to follow.
type frames struct {
	match int // how much of the end of the HTTP head has come
	head  [frameHeader]byte
	have  int // how much of head has come
	left  int // how much of the frame is to come
	ping  bool
}

const (
	frameHeader = 8
	typePing    = 6
	headEnd     = "\r\n\r\n"
)

// The places of a byte in such a direction.
const (
	inHead = iota
	inHeader
	inFrame
)

// place is where the next byte belongs.
func (f *frames) place() int {
	switch {
	case f.match < len(headEnd):
		return inHead
	case f.left > 0:
		return inFrame
	}
	return inHeader
}

// take follows those first bytes of p that belong to one place, and says how many
// they are and whether they complete the header of a frame.
func (f *frames) take(p []byte) (n int, headed bool) {
	switch f.place() {
	case inHead:
		for n < len(p) && f.match < len(headEnd) {
			switch p[n] {
			case headEnd[f.match]:
				f.match++
			case headEnd[0]:
				f.match = 1
			default:
				f.match = 0
			}
			n++
		}
		return n, false
	case inFrame:
		n = min(len(p), f.left)
		f.left -= n
		return n, false
	}
	n = copy(f.head[f.have:], p)
	if f.have += n; f.have < frameHeader {
		return n, false
	}
	f.have = 0
	f.left = int(binary.BigEndian.Uint32(f.head[4:]) & 0xFFFFFF)
	f.ping = f.head[0]&0x80 != 0 && binary.BigEndian.Uint16(f.head[2:]) == typePing
	return n, true
}
