package main

import (
	"io"
	"net"
	"sync/atomic"
	"time"
)

// linger is how long a closed connection may take to deliver what was written.
const linger = 2 * time.Minute

// lingering is a listener whose connections deliver all that was written before
// they go, whatever the peer still sends.
//
// The kernel drops what it has yet to send, and resets the connection, when
// something comes in after Close. Clients of exec and port-forward send a ping
// every few seconds, so that a slow reader would lose the end of what a command
// printed. Here Close says that no more is written, and takes in what comes until
// the peer has closed too.
type lingering struct{ net.Listener }

// Accept is net.Listener's.
func (l lingering) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		return &lingeringConn{TCPConn: tcp}, nil
	}
	return conn, err
}

type lingeringConn struct {
	*net.TCPConn
	closed atomic.Bool
}

// Close is net.Conn's. It does not wait.
func (c *lingeringConn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	// Whoever waits in Read is to see that it is over.
	if c.SetReadDeadline(time.Unix(1, 0)) != nil || c.CloseWrite() != nil {
		return c.TCPConn.Close() // The peer has gone already.
	}
	go func() {
		if c.SetReadDeadline(time.Now().Add(linger)) == nil {
			// It ends when the peer closes; if it fails, there is no peer.
			_, _ = io.Copy(io.Discard, c.TCPConn)
		}
		_ = c.TCPConn.Close() // Nobody is left who could be told.
	}()
	return nil
}

// Read is net.Conn's.
func (c *lingeringConn) Read(p []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	n, err := c.TCPConn.Read(p)
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	return n, err
}

// Write is net.Conn's.
func (c *lingeringConn) Write(p []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	return c.TCPConn.Write(p)
}

// ReadFrom keeps TCPConn's from going around Write.
func (c *lingeringConn) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, r)
}

// WriteTo keeps TCPConn's from going around Read.
func (c *lingeringConn) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c})
}
