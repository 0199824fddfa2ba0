// Package tunnel carries byte streams between a server and a node over NATS, so
// that the API server reaches a node (logs, exec, attach, port-forward) without
// any port being open there. The node listens with Listen; a server connects with
// Dial; both get a net.Conn.
//
// NATS itself has no back pressure and may lose messages when a connection
// breaks. So each side sends only as much as the other has given it credit for,
// and numbers what it sends: a lost message ends the tunnel with an error, never
// with a hole in the bytes.
//
// It authenticates nobody: that only a server can dial a node, and only that node
// can answer, is NATS's permissions' doing (see bus.Node).
package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/reprise-run/reprise/agents/bus"
)

// addr names an end of a tunnel.
type addr string

// Network and String are net.Addr's.
func (addr) Network() string  { return "nats" }
func (a addr) String() string { return string(a) }

// patience is how long a node may take to accept. One that is gone without a word
// counts as connected until NATS notices, which takes minutes.
const patience = 10 * time.Second

// Dial opens a tunnel to a node. It fails at once if the node is not connected.
func Dial(ctx context.Context, nc *nats.Conn, node bus.Node) (net.Conn, error) {
	id := nuid.Next()
	c := newConn(nc, node.Down(id), addr("server"), addr(node.Down("")))
	opened := make(chan error, 1)
	answer := func(err error) {
		select {
		case opened <- err:
		default:
		}
	}
	var err error
	c.sub, err = nc.Subscribe(node.Up(id), func(m *nats.Msg) {
		if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
			answer(errors.New("the node is not connected"))
			return
		}
		f, err := parseFrame(m.Data)
		if err == nil && f.kind == frameReset {
			answer(errors.New(string(f.body)))
		}
		c.receive(m.Data)
		if err == nil && f.kind == frameOpen {
			answer(nil)
		}
	})
	if err == nil {
		// Credit bounds what can wait; NATS need not.
		err = errors.Join(c.sub.SetPendingLimits(-1, -1), nc.PublishRequest(node.Down(""), node.Up(id), []byte(id)))
	}
	if err == nil {
		late := time.NewTimer(patience)
		defer late.Stop()
		select {
		case err = <-opened:
		case <-late.C:
			err = errors.New("the node does not answer")
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("cannot open a tunnel to %s: %w", node.Down(""), err)
	}
	go c.keep()
	return c, nil
}

// listener accepts on a node.
type listener struct {
	node   bus.Node
	sub    *nats.Subscription
	conns  chan net.Conn
	closed chan struct{}
	close  sync.Once
}

// backlog is how many tunnels may wait to be accepted; more are turned away.
const backlog = 128

// Listen accepts the tunnels that servers open to the node.
func Listen(nc *nats.Conn, node bus.Node) (net.Listener, error) {
	l := &listener{node: node, conns: make(chan net.Conn, backlog), closed: make(chan struct{})}
	var err error
	l.sub, err = nc.Subscribe(node.Down(""), func(m *nats.Msg) { l.open(nc, string(m.Data)) })
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen for tunnels on %s: %w", node.Down(""), err)
	}
	return l, nil
}

func (l *listener) open(nc *nats.Conn, id string) {
	c := newConn(nc, l.node.Up(id), addr(l.node.Down("")), addr("server"))
	var err error
	c.sub, err = nc.Subscribe(l.node.Down(id), func(m *nats.Msg) { c.receive(m.Data) })
	if err == nil {
		err = c.sub.SetPendingLimits(-1, -1)
	}
	if err != nil {
		c.reset("the node cannot listen: " + err.Error())
		return
	}
	select {
	case <-l.closed:
		c.reset("the node is shutting down")
	case l.conns <- c:
		c.send(frameOpen, nil)
		go c.keep()
	default:
		c.reset("too many tunnels wait to be accepted by the node")
	}
}

// Accept is net.Listener's.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close is net.Listener's. Tunnels that were accepted stay.
func (l *listener) Close() error {
	l.close.Do(func() {
		close(l.closed)
		// It fails only if the connection is gone, and then nothing comes.
		_ = l.sub.Unsubscribe()
		for {
			select {
			case c := <-l.conns:
				c.Close()
			default:
				return
			}
		}
	})
	return nil
}

// Addr is net.Listener's.
func (l *listener) Addr() net.Addr { return addr(l.node.Down("")) }

// silence is how long a tunnel whose peer is not heard of stays open, and a third
// of it is how often each side says that it is there.
const silence = 45 * time.Second
