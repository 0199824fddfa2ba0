package historian

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// An export is a stream of bytes that its client pulls piece by piece, so that a
// client that is slow, or gone, holds up nobody and fills no memory:
//
//	<prefix>-history.export        a range of sequences; answered with the export's own subject
//	<prefix>-history.export.<id>   the number of a piece; answered with it
const (
	methodExport = "export"

	headerEnd  = "Reprise-End"  // there is no such piece: the last was before
	headerWait = "Reprise-Wait" // the piece is not ready yet: ask again

	// piece is how many bytes one answer of an export has at most.
	piece = 512 << 10
	// pieces is how many are made before they are asked for.
	pieces = 4
	// abandoned is how long an export waits for its client.
	abandoned = time.Minute
	// exports is how many may be under way at once.
	exports = 4
)

// ExportRange says what is to be exported: events by their sequences, both included.
// Zero is the log's end on that side.
type ExportRange struct{ From, To uint64 }

// export is one that is under way.
type export struct {
	out    chan []byte // pieces, closed after the last
	cancel context.CancelFunc
	idle   *time.Timer
	err    error // why out was closed; set before

	mu    sync.Mutex // one answer at a time
	next  int        // the number of the piece that out holds
	last  []byte     // the piece before, in case its answer was lost
	ended bool
}

var errTooMany = fmt.Errorf("%d exports are under way already: wait until one is done", exports)

// begin answers with the subject of a new export.
func (s *server) begin(m *nats.Msg) (*nats.Msg, error) {
	var r ExportRange
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return nil, fmt.Errorf("not a question for an export: %w", err)
	}
	if s.Export == nil {
		return nil, errors.New("this history cannot be exported")
	}
	select {
	case s.exporting <- struct{}{}:
	default:
		return nil, errTooMany
	}
	ctx, cancel := context.WithCancel(s.ctx)
	x := &export{out: make(chan []byte, pieces), cancel: cancel, idle: time.AfterFunc(abandoned, cancel)}
	at := subject(s.prefix, methodExport) + "." + nuid.Next()
	sub, err := s.nc.Subscribe(at, func(m *nats.Msg) {
		if !s.answering.start(func() { respond(m, x.piece(ctx, m)) }) {
			respond(m, refusal(errStopping))
		}
	})
	if err == nil && !s.answering.start(func() {
		x.run(ctx, func(w io.Writer) error { return s.Export(ctx, r, w) })
		// What it has made is there until it is fetched, or nobody comes.
		<-ctx.Done()
		_ = sub.Unsubscribe() // A closed connection has no subscriptions.
		<-s.exporting
	}) {
		err = errors.Join(errStopping, sub.Unsubscribe())
		<-s.exporting
	}
	if err != nil {
		cancel()
		return nil, err
	}
	reply := nats.NewMsg("")
	reply.Data = []byte(at)
	return reply, nil
}

// run makes the pieces.
func (x *export) run(ctx context.Context, write func(io.Writer) error) {
	w := &piecewise{ctx: ctx, out: x.out}
	err := write(w)
	if err == nil {
		err = w.flush()
	}
	x.err = err
	close(x.out)
}

// piece answers with the piece that is asked for.
func (x *export) piece(ctx context.Context, m *nats.Msg) *nats.Msg {
	n, err := strconv.Atoi(string(m.Data))
	if err != nil { // The client says that it wants no more.
		x.cancel()
		return nats.NewMsg("")
	}
	x.idle.Reset(abandoned)
	x.mu.Lock()
	defer x.mu.Unlock()
	reply := nats.NewMsg("")
	switch {
	case n == x.next-1:
		reply.Data = x.last
		return reply
	case n != x.next:
		return refusal(fmt.Errorf("piece %d of an export was asked for where piece %d is next", n, x.next))
	case x.ended:
		return x.end(reply)
	}
	b, more, waited := x.await(ctx)
	switch {
	case waited:
		reply.Header.Set(headerWait, "true")
		return reply
	case !more:
		x.ended = true
		return x.end(reply)
	}
	x.next++
	x.last, reply.Data = b, b
	return reply
}

// await returns the next piece, or says that there is none or none yet.
func (x *export) await(ctx context.Context) (b []byte, more, waited bool) {
	patience := time.NewTimer(poll)
	defer patience.Stop()
	select {
	case b, more = <-x.out:
		return b, more, false
	case <-patience.C:
		return nil, true, true
	case <-ctx.Done():
		return nil, true, true
	}
}

func (x *export) end(reply *nats.Msg) *nats.Msg {
	if x.err != nil {
		return refusal(x.err)
	}
	reply.Header.Set(headerEnd, "true")
	return reply
}

// piecewise cuts what is written to it into pieces.
type piecewise struct {
	ctx context.Context
	out chan<- []byte
	buf []byte
}

func (w *piecewise) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if w.buf == nil {
			w.buf = make([]byte, 0, piece)
		}
		n := min(len(rest), piece-len(w.buf))
		w.buf, rest = append(w.buf, rest[:n]...), rest[n:]
		if len(w.buf) == piece {
			if err := w.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

func (w *piecewise) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	select {
	case w.out <- w.buf:
		w.buf = nil
		return nil
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

// Export writes an archive of a part of the history.
func (c *Client) Export(ctx context.Context, r ExportRange, w io.Writer) error {
	m, err := c.ask(ctx, methodExport, r)
	if err != nil {
		return err
	}
	at := string(m.Data)
	// However this ends, the server need not wait for it to be abandoned.
	defer func() { _ = c.nc.Publish(at, []byte("done")) }()
	for n := 0; ; {
		m, err := c.piece(ctx, at, n)
		switch {
		case err != nil:
			return err
		case m.Header.Get(headerEnd) != "":
			return nil
		case m.Header.Get(headerWait) != "":
			continue
		}
		if _, err := w.Write(m.Data); err != nil {
			return err
		}
		n++
	}
}

// piece asks for a piece, again if the answer is lost on the way.
func (c *Client) piece(ctx context.Context, at string, n int) (m *nats.Msg, err error) {
	for range 3 {
		once, cancel := context.WithTimeout(ctx, poll+flushed)
		m, err = c.request(once, at, strconv.AppendInt(nil, int64(n), 10))
		cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			return m, err
		}
	}
	return nil, err
}
