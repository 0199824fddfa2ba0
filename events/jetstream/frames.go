package jetstream

import (
	"net"
	"strconv"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
)

// tap is the server in this process for one connection, to which whole messages can be
// written as they are sent, beside what the client writes. The client takes headers as a
// map only, which costs more than all else that is done to send an event. It still opens
// the connection, keeps it alive, and opens it again.
type tap struct {
	*Server
	nc   *nats.Conn
	conn atomic.Pointer[net.Conn]
}

// InProcessConn is NATS's.
func (t *tap) InProcessConn() (net.Conn, error) {
	conn, err := t.Server.InProcessConn()
	if err == nil {
		t.conn.Store(&conn)
	}
	return conn, err
}

// write sends whole messages. A connection takes what is written to it at once, whoever
// writes meanwhile, behind all that it took before.
func (t *tap) write(messages []byte) error {
	conn := *t.conn.Load() // before it is asked for, since one that is being opened takes none
	if !t.nc.IsConnected() {
		return nats.ErrConnectionClosed
	}
	_, err := conn.Write(messages)
	if err != nil {
		conn.Close() // it may have got a part
	}
	return err
}

// enough is how much of a flight is sent at once, as the client does: the server reads with
// a buffer that fits what it reads, and makes another when that is much more, or less.
const enough = 32 << 10

// frames are messages of events as they are sent.
type frames struct {
	to      *tap
	headers headerWriter
	head    []byte // the block of headers of one
	out     []byte
}

func newFrames(to *tap) *frames {
	w := &frames{to: to}
	w.headers.set = w.header
	return w
}

func (w *frames) header(key string, value []byte) {
	w.head = append(append(append(append(w.head, key...), ": "...), value...), "\r\n"...)
}

// send sends a flight. Each message carries the expected last sequence: if one is not
// stored, those after it are not either. The last is answered.
func (w *frames) send(f *flight, inbox string) error {
	w.out = w.out[:0]
	for i := range f.batch {
		e := f.batch[i]
		e.Sequence = f.after + 1 + uint64(i)
		reply := ""
		if e.Sequence == f.last() {
			reply = inbox + strconv.FormatUint(e.Sequence, 10)
		}
		if w.add(f.root, reply, &e); len(w.out) < enough && reply == "" {
			continue
		}
		err := w.to.write(w.out)
		if w.out = w.out[:0]; cap(w.out) > 1<<20 {
			w.out = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// add adds the message of an event.
func (w *frames) add(root, reply string, e *events.Event) {
	w.head = append(w.head[:0], "NATS/1.0\r\n"...)
	body := w.headers.encode(e)
	var digits [20]byte
	w.header(hExpect, strconv.AppendUint(digits[:0], e.Sequence-1, 10))
	w.head = append(w.head, "\r\n"...)

	b := append(append(w.out, "HPUB "...), subject(root, e)...)
	if reply != "" {
		b = append(append(b, ' '), reply...)
	}
	b = strconv.AppendInt(append(b, ' '), int64(len(w.head)), 10)
	b = strconv.AppendInt(append(b, ' '), int64(len(w.head)+len(body)), 10)
	b = append(append(append(b, "\r\n"...), w.head...), body...)
	w.out = append(b, "\r\n"...)
}
