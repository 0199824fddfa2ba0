package jetstream

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events/durable"
	"github.com/reprise-run/reprise/events/jetstream/blockfile"
)

// packer compresses the full blocks of a stream that is in this process alone. JetStream can
// do so too, but has a block in memory several times for that. It reads either form, whatever
// it is told of the stream, and opens the file each time.
//
// JetStream writes no more into a full block from which nothing was deleted. A volatile stream
// forgets from its beginning on, and drops a block, or makes it shorter, when much of what that
// has is too old. A block that is another file, or none, once it is compressed is left. Should
// JetStream come in the moment after that, what has aged away is in a file once more, until a
// start after a crash, and nobody is given it: JetStream knows where the stream begins.
type packer struct {
	server *Server
	name   string
	dir    string // of the blocks
	// written is about how many bytes were appended since blocks were looked for.
	written atomic.Int64

	mu   sync.Mutex // held while blocks are compressed
	next uint64     // no block before it is looked at any more; 0 if none ever was
}

// openPacker returns that of a stream, the same for all who open it.
func (s *Server) openPacker(stream string) (*packer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.packers[stream]; p != nil {
		return p, nil
	}
	found, err := filepath.Glob(filepath.Join(s.dir, "jetstream", "*", "streams", stream, "msgs"))
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%d directories have its blocks, and one must", len(found))
	}
	p := &packer{server: s, name: stream, dir: found[0]}
	s.packers[stream] = p
	return p, nil
}

// lookAfter is about how many bytes are appended before full blocks are looked for.
const lookAfter = 4 << 20

// appended has full blocks be compressed now and then, beside who appends.
func (p *packer) appended(msgs []*nats.Msg) {
	size := 0
	for _, m := range msgs {
		size += m.Size()
	}
	if p.written.Add(int64(size)) < lookAfter {
		return
	}
	p.written.Store(0)
	p.server.beside(func() {
		all, err := blockfile.List(p.dir)
		if err != nil {
			p.failed(err)
			return
		}
		// The server goes on in the last that has something. Should a crash take that, the
		// start mends the one before.
		for _, last := range slices.Backward(all) {
			if last.Size > 0 {
				p.pack(last.Index)
				return
			}
		}
	})
}

// pack compresses the blocks before one, all of which are full and on disk, until the server
// is shut down. What fails leaves a block as it is, which costs room and nothing else, and is
// tried again with the next, unless the block cannot be read.
func (p *packer) pack(before uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.begin(before); err != nil {
		p.failed(err)
		return
	}
	for ; p.next < before; p.next++ {
		select {
		case <-p.server.closed:
			return
		default:
		}
		path := p.path(p.next)
		if err := compress(path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errReplaced) {
			if p.failed(err); readable(path) {
				return
			}
		}
	}
}

// begin finds out where a process before this one has stopped: blocks are compressed in order.
func (p *packer) begin(before uint64) error {
	if p.next > 0 {
		return nil
	}
	next := max(before, 1)
	for ; next > 1; next-- {
		f, compressed, err := openFull(p.path(next - 1))
		if errors.Is(err, fs.ErrNotExist) {
			break // it has aged away, or there is none
		}
		if err != nil {
			return err
		}
		f.Close()
		if compressed {
			break
		}
	}
	p.next = next
	return nil
}

func (p *packer) path(block uint64) string { return filepath.Join(p.dir, fmt.Sprint(block, ".blk")) }

func (p *packer) failed(err error) {
	p.server.log.Warn("cannot compress full blocks, which stay as they are", "stream", p.name, "error", err)
}

// openFull opens a block, and says whether it is compressed.
func openFull(path string) (f *os.File, compressed bool, err error) {
	if f, err = os.Open(path); err != nil {
		return nil, false, err
	}
	head := make([]byte, blockfile.Head)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, errors.Join(err, f.Close())
	}
	return f, blockfile.Compressed(head[:n]), nil
}

// compress replaces a block that is full and on disk by the same, compressed.
func compress(path string) error {
	f, compressed, err := openFull(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if compressed {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return durable.ReplaceBy(path, info.Mode().Perm(), func(to io.Writer) error {
		if err := blockfile.Compress(to, f, info.Size()); err != nil {
			return err
		}
		now, err := os.Stat(path)
		if err == nil && !os.SameFile(info, now) {
			err = errReplaced
		}
		return err
	})
}

// errReplaced says that JetStream has put another file in a block's place meanwhile.
var errReplaced = errors.New("the block was replaced meanwhile")

// readable says that all of a block can be read, and that it is no less than one can be.
func readable(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	n, err := io.Copy(io.Discard, f)
	return err == nil && n >= blockfile.Check
}
