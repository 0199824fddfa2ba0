package jetstream

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/reprise-run/reprise/events"
)

// intentSize is how large the file of an intent is, once and for all: so that to
// write it again changes nothing but its bytes.
const intentSize = 64 << 10

// intent is a file that holds the last append of a few events to a log:
//
//	sha256 of all behind it   32 bytes
//	length of what follows     4
//	sequence before            8
//	each event: length         4, chain 32, its encoding (events.AppendSealed)
type intent struct {
	server *Server
	stream string
	file   *os.File
	buf    []byte
}

// intent opens the file for a stream, or makes it.
func (s *Server) intent(stream string) (*intent, error) {
	path := filepath.Join(s.dir, "intent-"+stream)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the file for what is to be appended: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() < intentSize {
		if _, err = f.WriteAt(make([]byte, intentSize-info.Size()), info.Size()); err == nil {
			err = errors.Join(f.Sync(), syncDir(s.dir))
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot make the file for what is to be appended: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intents = append(s.intents, f)
	return &intent{server: s, stream: stream, file: f}, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

var errIntent = errors.New("what was being appended last cannot be read: its lengths do not add up")

const intentHead = sha256.Size + 4 + 8

// write puts an append on disk. It says false if that is too large.
func (t *intent) write(r *redo) (bool, error) {
	b := append(t.buf[:0], make([]byte, intentHead)...)
	binary.BigEndian.PutUint64(b[sha256.Size+4:], r.after)
	for i := range r.batch {
		e := r.batch[i]
		if len(b)+len(e.Data)+len(e.Note)+len(e.Asked) > intentSize {
			return false, nil
		}
		e.Sequence = r.after + 1 + uint64(i)
		at := len(b)
		b = append(append(b, 0, 0, 0, 0), e.Chain[:]...)
		b = e.AppendSealed(b)
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	t.buf = b
	if len(b) > intentSize {
		return false, nil
	}
	binary.BigEndian.PutUint32(b[sha256.Size:], uint32(len(b)-sha256.Size-4))
	sum := sha256.Sum256(b[sha256.Size:])
	copy(b, sum[:])
	_, err := t.file.WriteAt(b, 0)
	broken := errors.Is(err, syscall.EIO)
	if err == nil {
		err = t.sync()
		broken = err != nil && !errors.Is(err, syscall.EBADF) // it is closed
	}
	if broken {
		err = t.server.fail(t.stream, "cannot write what is to be appended: "+err.Error())
	}
	if err != nil {
		return false, fmt.Errorf("cannot write what is to be appended; nothing was appended: %w", err)
	}
	return true, nil
}

func (t *intent) sync() error {
	for {
		if err := syscall.Fdatasync(int(t.file.Fd())); err != syscall.EINTR {
			return err
		}
	}
}

// read returns the append that is in the file; nil if none is, or only part of one,
// of which nothing can have been appended then.
func (t *intent) read() (*redo, error) {
	b := make([]byte, intentSize)
	if _, err := t.file.ReadAt(b, 0); err != nil && err != io.EOF {
		return nil, fmt.Errorf("cannot read what was being appended last: %w", err)
	}
	size := int(binary.BigEndian.Uint32(b[sha256.Size:]))
	if size < 8 || size > intentSize-sha256.Size-4 || sha256.Sum256(b[sha256.Size:sha256.Size+4+size]) != [32]byte(b[:sha256.Size]) {
		return nil, nil
	}
	r := &redo{after: binary.BigEndian.Uint64(b[sha256.Size+4:])}
	for b = b[intentHead : sha256.Size+4+size]; len(b) > 0; {
		if len(b) < 4+32 {
			return nil, errIntent
		}
		n := int(binary.BigEndian.Uint32(b))
		if n < 32 || n > len(b)-4 {
			return nil, errIntent
		}
		e, err := events.ParseSealed(b[4+32 : 4+n])
		if err != nil {
			return nil, fmt.Errorf("what was being appended last cannot be read: %w", err)
		}
		copy(e.Chain[:], b[4:])
		r.batch = append(r.batch, e)
		b = b[4+n:]
	}
	return r, nil
}
