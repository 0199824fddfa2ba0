package blocks

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sort"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/jetstream/blockfile"
)

// Ahead is the log of a running server in this process, followed faster: what lies
// in full blocks is read from their files, and the rest from the server. The server
// writes no full block any more but to put the same, compressed, in its place at
// once.
//
// The files are not trusted more than the server is: at the first thing in them that
// is odd, the server is asked from there on, and its answer counts. Who follows
// checks the chain of what comes from either.
type Ahead struct {
	events.Log
	dir, prefix string
}

// ReadAhead returns the log of a server whose store directory is dir; prefix is that
// of jetstream.Config.
func ReadAhead(log events.Log, dir, prefix string) *Ahead { return &Ahead{log, dir, prefix} }

// few events are had from the server as fast.
const few = 5000

// Follow is events.Log's.
func (a *Ahead) Follow(ctx context.Context, from uint64) (events.Reader, error) {
	last, err := a.Last(ctx)
	if err != nil {
		return nil, err
	}
	if from == 0 || last < from+few {
		return a.Log.Follow(ctx, from)
	}
	s := newStream(a.dir, a.prefix)
	if err := s.find(); err != nil || s.Len() < 2 {
		return a.Log.Follow(ctx, from)
	}
	r := &aheadReader{log: a.Log, next: from, blocks: make(chan []events.Event, 1), done: make(chan struct{})}
	go r.read(s, from, last)
	return r, nil
}

// aheadReader reads files until they end, and then the log.
type aheadReader struct {
	log    events.Log
	blocks chan []events.Event // closed at the end of what the files have
	done   chan struct{}
	close  sync.Once

	next    uint64         // the sequence after those of pending
	pending []events.Event // read from files, and not yet given out
	behind  events.Reader  // the log's, once the files have ended
}

// read sends the events of full blocks from next to last, as long as all is well.
func (r *aheadReader) read(s *Stream, next, last uint64) {
	defer close(r.blocks)
	f := files{stream: s, decoder: jetstream.NewDecoder()}
	for i := f.find(next); i < s.Len()-1; i++ {
		all := f.events(i)
		for len(all) > 0 && all[0].Sequence < next {
			all = all[1:]
		}
		for n := range all {
			if all[n].Sequence != next || next > last {
				return
			}
			next++
		}
		select {
		case r.blocks <- all:
		case <-r.done:
			return
		}
	}
}

// batch is about how many events are given out at once: few enough that what is
// done with them is done side by side with what is done with others.
const batch = 1000

// Next is events.Reader's.
func (r *aheadReader) Next(ctx context.Context) ([]events.Event, error) {
	for r.behind == nil {
		if n := whole(r.pending, batch); n > 0 {
			out := r.pending[:n:n]
			r.pending = r.pending[n:]
			return out, nil
		}
		select {
		case more, ok := <-r.blocks:
			if ok {
				r.pending = append(r.pending[:len(r.pending):len(r.pending)], more...)
				r.next += uint64(len(more))
				continue
			}
			// What was read of a decision that the files do not end is read again.
			behind, err := r.log.Follow(ctx, r.next-uint64(len(r.pending)))
			if err != nil {
				return nil, err
			}
			r.behind, r.pending = behind, nil
		case <-r.done:
			return nil, errors.New("the reader of the log's files is closed")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return r.behind.Next(ctx)
}

// whole is how many events there are up to the end of the first decision that ends
// at or behind the n-th, or else of the last one.
func whole(all []events.Event, n int) int {
	for i := min(n, len(all)); i > 0 && i <= len(all); i++ {
		if !all[i-1].More {
			return i
		}
	}
	for i := min(n, len(all)); i > 0; i-- {
		if !all[i-1].More {
			return i
		}
	}
	return 0
}

// Close is events.Reader's.
func (r *aheadReader) Close() error {
	r.close.Do(func() { close(r.done) })
	if r.behind != nil {
		return r.behind.Close()
	}
	return nil
}

// files reads blocks one after the other, in the same memory.
type files struct {
	stream       *Stream
	decoder      *jetstream.Decoder
	content, raw bytes.Buffer
	s2           *s2.Reader
}

// find returns the block that an event is in, if it is in any.
func (f *files) find(sequence uint64) int {
	if sequence == 1 {
		return 0
	}
	behind := sort.Search(f.stream.Len(), func(i int) bool {
		p, ok := f.parser(i)
		if !ok {
			return true
		}
		r, reason := p.record(0)
		return reason != "" || r.Sequence > sequence
	})
	return max(behind-1, 0)
}

// events returns the events of a block, up to the first that cannot be read.
func (f *files) events(i int) []events.Event {
	p, ok := f.parser(i)
	if !ok {
		return nil
	}
	all, _ := p.all()
	return all
}

// parser loads a block, and says whether it could. What it takes apart is gone with the next.
func (f *files) parser(i int) (*parser, bool) {
	block := f.stream.blocks[i]
	if !f.load(block.Path) {
		return nil, false
	}
	return &parser{
		check: checksum(f.stream.prefix, block.Index), raw: f.raw.Bytes(),
		read: func(r record) (events.Event, error) { return f.decoder.Decode(r.Headers, r.Body, r.Sequence) },
	}, true
}

// load reads a file and decompresses it, as blockfile does for those who need to know why it
// cannot be done.
func (f *files) load(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	f.content.Reset()
	f.raw.Reset()
	if _, err := f.content.ReadFrom(io.LimitReader(file, blockfile.Largest+1)); err != nil {
		return false
	}
	content := f.content.Bytes()
	var info server.CompressionInfo
	n, err := info.UnmarshalMetadata(content)
	if err != nil || len(content) < n+blockfile.Check || len(content) > blockfile.Largest {
		return false
	}
	if n == 0 {
		f.raw.Write(content)
		return true
	}
	end := len(content) - blockfile.Check
	if f.s2 == nil {
		f.s2 = s2.NewReader(nil)
	}
	f.s2.Reset(bytes.NewReader(content[n:end]))
	if _, err := io.Copy(&f.raw, io.LimitReader(f.s2, blockfile.Largest+1)); err != nil || f.raw.Len() > blockfile.Largest {
		return false
	}
	f.raw.Write(content[end:])
	return true
}
