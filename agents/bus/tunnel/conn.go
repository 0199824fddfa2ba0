package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// conn is one end of a tunnel.
type conn struct {
	nc            *nats.Conn
	sub           *nats.Subscription
	to            string
	local, remote addr
	done          chan struct{} // closed with the connection

	mu sync.Mutex
	// wake is closed, and replaced, when anything below changes.
	wake     chan struct{}
	buf      [][]byte // received and not yet read
	unread   int      // bytes in buf
	owed     int      // bytes read and not yet credited to the peer
	credit   int      // bytes that the peer allows us to send
	ended    bool     // the peer writes no more
	finished bool     // we write no more
	gone     bool     // the peer has closed
	failed   error    // why the tunnel does not work any more
	closed   bool     // we have closed
	received uint32   // the number of the last frame that came
	heard    time.Time
	read     deadline
	write    deadline

	// sending orders what goes out; it is taken before mu, never after.
	sending sync.Mutex
	sent    uint32
}

// deadline is a time after which reading or writing fails.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func newConn(nc *nats.Conn, to string, local, remote addr) *conn {
	return &conn{
		nc: nc, to: to, local: local, remote: remote, done: make(chan struct{}), wake: make(chan struct{}),
		credit: window, heard: time.Now(),
	}
}

var errPeerClosed = errors.New("the other end of the tunnel is closed")

// change wakes all who wait. Called with mu held.
func (c *conn) change() {
	close(c.wake)
	c.wake = make(chan struct{})
}

// receive takes a message from the peer. It never waits: credit bounds the buffer.
func (c *conn) receive(message []byte) {
	f, err := parseFrame(message)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.change()
	c.heard = time.Now()
	c.received++
	switch {
	case c.failed != nil:
		return
	case err != nil:
		c.failed = err
		return
	case f.number != c.received && f.kind != frameReset:
		c.failed = fmt.Errorf("message %d of the tunnel is lost", c.received)
		return
	}
	switch f.kind {
	case frameData:
		if c.unread += len(f.body); c.unread > window {
			c.failed = errors.New("the other end of the tunnel sends more than it may")
			return
		}
		if !c.closed {
			c.buf = append(c.buf, f.body)
		}
	case frameCredit:
		if len(f.body) == 4 {
			c.credit += int(binary.BigEndian.Uint32(f.body))
		}
	case frameFin:
		c.ended = true
	case frameClose:
		c.ended, c.gone = true, true
	case frameReset:
		c.failed = errors.New(string(f.body))
	}
}

func (c *conn) send(kind byte, body []byte) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	c.sent++
	return c.nc.Publish(c.to, frame{kind: kind, number: c.sent, body: body}.encode())
}

// await returns when something changed, unless d has passed.
func (c *conn) await(d *deadline) {
	wake, at := c.wake, d.at
	if at.IsZero() {
		d.timer = nil
	} else if d.timer == nil {
		d.timer = time.AfterFunc(time.Until(at), func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.change()
		})
	}
	c.mu.Unlock()
	<-wake
	c.mu.Lock()
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) set(at time.Time) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = at
}

// Read is net.Conn's.
func (c *conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	for {
		switch {
		case c.closed:
			c.mu.Unlock()
			return 0, net.ErrClosed
		case c.read.passed():
			c.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case len(c.buf) > 0:
			n, owed := c.takeLocked(p)
			c.mu.Unlock()
			if owed > 0 {
				// If the credit is lost, so is the tunnel, and the next call says so.
				_ = c.send(frameCredit, binary.BigEndian.AppendUint32(nil, uint32(owed)))
			}
			return n, nil
		case c.failed != nil:
			err := c.failed
			c.mu.Unlock()
			return 0, err
		case c.ended:
			c.mu.Unlock()
			return 0, io.EOF
		case len(p) == 0:
			c.mu.Unlock()
			return 0, nil
		}
		c.await(&c.read)
	}
}

// takeLocked moves received bytes to p, and says how much credit is due now: a
// quarter of the window at a time, so that credits are few.
func (c *conn) takeLocked(p []byte) (n, owed int) {
	for n < len(p) && len(c.buf) > 0 {
		k := copy(p[n:], c.buf[0])
		n += k
		if c.buf[0] = c.buf[0][k:]; len(c.buf[0]) == 0 {
			c.buf = c.buf[1:]
		}
	}
	c.unread -= n
	c.owed += n
	if c.owed >= window/4 && !c.ended {
		owed, c.owed = c.owed, 0
	}
	return n, owed
}

// Write is net.Conn's.
func (c *conn) Write(p []byte) (int, error) {
	written := 0
	for {
		n, err := c.reserve(len(p) - written)
		if err != nil {
			return written, err
		}
		if err := c.send(frameData, p[written:written+n]); err != nil {
			c.fail(fmt.Errorf("the tunnel broke: %w", err))
			return written, err
		}
		if written += n; written == len(p) {
			return written, nil
		}
	}
}

// reserve waits until something may be sent, and says how much.
func (c *conn) reserve(want int) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case c.write.passed():
			return 0, os.ErrDeadlineExceeded
		case c.failed != nil:
			return 0, c.failed
		case c.gone:
			return 0, errPeerClosed
		case c.finished:
			return 0, errors.New("writing after CloseWrite")
		case c.credit > 0 || want == 0:
			n := min(want, c.credit, chunk)
			c.credit -= n
			return n, nil
		}
		c.await(&c.write)
	}
}

// CloseWrite says that no more will be written; reading goes on.
func (c *conn) CloseWrite() error {
	c.mu.Lock()
	again := c.finished || c.closed
	c.finished = true
	c.change()
	c.mu.Unlock()
	if again {
		return nil
	}
	return c.send(frameFin, nil)
}

// Close is net.Conn's. What was written still arrives.
func (c *conn) Close() error {
	if !c.shut() {
		return nil
	}
	// If the peer does not hear of it, its silence limit does.
	_ = c.send(frameClose, nil)
	return nil
}

// reset ends the tunnel and tells the peer why.
func (c *conn) reset(why string) {
	if c.shut() {
		// As above.
		_ = c.send(frameReset, []byte(why))
	}
}

func (c *conn) shut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.closed = true
	c.buf = nil
	c.read.set(time.Time{})
	c.write.set(time.Time{})
	close(c.done)
	c.change()
	if c.sub != nil {
		// It fails only if the connection is gone, and then nothing comes.
		_ = c.sub.Unsubscribe()
	}
	return true
}

func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil {
		c.failed = err
	}
	c.change()
}

// keep tells the peer that we are there, and fails the tunnel when the peer is
// not heard of.
func (c *conn) keep() {
	tick := time.NewTicker(silence / 3)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
		c.mu.Lock()
		quiet := time.Since(c.heard) > silence
		c.mu.Unlock()
		if quiet {
			c.fail(errors.New("the other end of the tunnel does not answer"))
		}
		if err := c.send(framePing, nil); err != nil {
			c.fail(fmt.Errorf("the tunnel broke: %w", err))
		}
	}
}

// LocalAddr and RemoteAddr are net.Conn's.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is net.Conn's.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline is net.Conn's.
func (c *conn) SetDeadline(t time.Time) error { return c.setDeadlines(t, &c.read, &c.write) }

// SetReadDeadline is net.Conn's.
func (c *conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(t, &c.read) }

// SetWriteDeadline is net.Conn's.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(t, &c.write) }

func (c *conn) setDeadlines(t time.Time, which ...*deadline) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	for _, d := range which {
		d.set(t)
	}
	c.change()
	return nil
}
