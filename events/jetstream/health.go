package jetstream

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream/blockfile"
	"github.com/reprise-run/reprise/events/jetstream/intent"
)

// A write or a sync that has failed cannot be mended by trying again: the kernel
// drops what it could not write and says so once, and the next sync succeeds without
// it, while reads still find it in memory. So after the first failure the server
// takes nothing more and confirms nothing, the process is to end, and the next start
// looks at what the disk has, not at what the kernel remembers.

// Failed is closed when the disk has refused to keep something. Err says what.
func (s *Server) Failed() <-chan struct{} { return s.failed }

// Err is why the server must be started anew, nil if it need not be.
func (s *Server) Err() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// look asks JetStream whether it could write and sync all that it was given. That it
// answers nothing to an append that it could not is all that the writer learns
// otherwise.
func (s *Server) look() error {
	health := s.health(&server.HealthzOptions{Details: true})
	for _, e := range health.Errors {
		// It shares the type with others that pass.
		if e.Type == server.HealthzErrorStream && strings.Contains(e.Error, "write error") {
			return s.fail(e.Stream, e.Error)
		}
	}
	return s.Err()
}

// lost says that JetStream says that it does not have an event: what it could not write it
// forgets, also if it has answered. It says so too when it could not look, as while it is
// shut down, and so is asked twice.
func (s *Server) lost(ctx context.Context, name string, sequence uint64) bool {
	for range 2 {
		if !s.lacks(ctx, name, sequence) {
			return false
		}
	}
	select {
	case <-s.closed:
		return false
	default:
		return true
	}
}

// lacks is lost, asked once.
func (s *Server) lacks(ctx context.Context, name string, sequence uint64) bool {
	nc, err := s.Connect()
	if err != nil {
		return false
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return false
	}
	_, err = stream.GetMsg(ctx, sequence)
	return errors.Is(err, jetstream.ErrMsgNotFound)
}

// fail notes the first failure.
func (s *Server) fail(stream, why string) error {
	err := fmt.Errorf("the disk of the log, which has %s, has failed stream %s: %s; what was acknowledged before is safe; see that the disk is sound and has room, and start again", s.dir, stream, why)
	if s.failure.CompareAndSwap(nil, &err) {
		close(s.failed)
	}
	return s.Err()
}

// watchHealth looks whenever NATS reports an error, until the server is shut down.
func (s *Server) watchHealth(reported <-chan struct{}) {
	for {
		select {
		case <-reported:
			// It is returned to who asks next.
			_ = s.look()
		case <-s.closed:
			return
		}
	}
}

// confirmSync fails if what JetStream says that it has synced may not be on the disk after
// all (see durable.Confirm), and then fails the server. Who is told of something that
// JetStream keeps, and not the log's journal, is told behind it. What an external NATS says
// cannot be confirmed.
func confirmSync(nc *nats.Conn, stream string) error {
	s := embedded(nc)
	if s == nil || s.unsafe {
		return nil
	}
	if err := s.confirm(s.lock); err != nil {
		return s.fail(stream, "cannot confirm a sync: "+err.Error())
	}
	return s.Err()
}

// embedded is the server in this process, if it is there that the log is kept.
func (l *Log) embedded() *Server { return embedded(l.nc) }

// embedded is the server in this process to which a connection leads, if it does.
func embedded(nc *nats.Conn) *Server {
	switch in := nc.Opts.InProcessServer.(type) {
	case *Server:
		return in
	case *tap:
		return in.Server
	}
	return nil
}

// refuse fails if the log's disk has.
func (l *Log) refuse() error {
	if s := l.embedded(); s != nil {
		return s.Err()
	}
	return nil
}

// confirm is asked after an event was read: if the answer to an append had not come,
// the event may be readable and yet not be on the disk. Reading waits for an append
// under way, so that by now JetStream knows.
func (l *Log) confirm() error {
	s := l.embedded()
	if s == nil || !l.doubtful.Load() {
		return l.refuse()
	}
	if err := s.look(); err != nil {
		return err
	}
	l.doubtful.Store(false)
	return nil
}

// doubt notes that an append was not answered.
func (l *Log) doubt(err error) {
	if errors.Is(err, events.ErrUncertain) {
		l.doubtful.Store(true)
	}
}

// settle makes durable what an earlier process wrote and did not live to sync, and
// has the kernel forget what it remembers of the end of each stream: after a write
// that failed, its memory is not what the disk has.
func settle(dir string, lock *os.File) error {
	if err := syncAll(lock); err != nil {
		return fmt.Errorf("the disk of the log, which has %s, cannot be written: %w; see that it is sound, and start again", dir, err)
	}
	streams, err := streamDirs(dir)
	if err != nil {
		return err
	}
	for _, stream := range streams {
		blocks, err := blockfile.List(stream)
		if err != nil {
			return err
		}
		files := []string{filepath.Join(stream, "index.db")}
		bytes := int64(0)
		for _, path := range intent.Paths(dir, filepath.Base(filepath.Dir(stream))) {
			if info, err := os.Stat(path); err == nil {
				bytes += info.Size()
				files = append(files, path)
			}
		}
		// As many blocks as the journal may tell of, and more than one: an append may
		// have begun another. A block is full with 8 MB.
		for _, file := range blocks[max(0, len(blocks)-4-int(bytes>>22)):] {
			files = append(files, file.Path)
		}
		for _, path := range files {
			if err := forget(path); err != nil {
				return fmt.Errorf("cannot look at the end of the log: %w", err)
			}
		}
	}
	return nil
}

func forget(file string) error {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	// The advice is taken for what is on the disk, and all is, after the sync.
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}
