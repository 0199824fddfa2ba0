// Package pebble is the durable projection: the cluster's current objects and
// its whole history, indexed, in one Pebble database a server. projections/live
// gives it what it folds and loads from it at the start; projections/history is
// how it is asked. It never touches the log, and holds nothing that is not in
// it: what is damaged is put aside and made anew.
//
// # Keys
//
//	a                                               the cursor: versions, sequence, chain
//	b                                               where it begins, if not with the log: a sequence (see Begin)
//	o group\0 resource\0 namespace\0 name\0         there is such an object now; its history says how it is
//	h group\0 resource\0 namespace\0 name\0 SEQ     a step of an object's history: the event's data,
//	                                                and for every 16th the whole object (a keyframe)
//	l group\0 resource\0 namespace\0 name\0 SEQ     the lifetime of an object that was created at SEQ: empty, or the
//	                                                sequence at which it was removed
//	e SEQ                                           an event's envelope; its data is in the history
//	c CAUSE SEQ                                     an event SEQ that followed from the event CAUSE
//	u uid                                           the reference of the object with that uid
//
// SEQ and CAUSE are eight bytes, big-endian. The keys sort as events.Ref.Compare
// and sequences do, so that one scan lists a resource, and one seek finds the
// last step of an object at or before a sequence. Lifetimes tell which objects
// there were at a sequence, without a look into the histories of all that ever
// were. There is no index by time,
// because times never run backwards within a log: it is searched by halves.
// There is none by namespace, actor or type either: to scan a million envelopes
// takes about a second, and an index would cost every event a key more.
//
// # What is durable before what
//
// The keys of a decision and the cursor are written in one batch, so that what
// is found after a crash is the projection as of some earlier decision. The
// log is the write-ahead log: Pebble's own is off, and after a crash the
// events since the last flush of a memtable are folded again. A long log is
// taken in by whole tables, which are added together, the cursor with them: see
// filler.
package pebble

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/history"
	"github.com/reprise-run/reprise/projections/live"
)

// Options adjust a Store. The zero value is for production.
type Options struct {
	// FS is the file system; the machine's if nil.
	FS vfs.FS
	// Log takes warnings; slog.Default if nil.
	Log *slog.Logger
	// MemTable is how many bytes that were committed are gathered in memory before
	// they are written, and so about how much is folded again after a crash; 8 MB
	// if 0.
	MemTable uint64
	// Segment is after how many events Fill makes durable what it was given, a
	// million if 0: as much is folded again after a crash, and is on the disk twice
	// while it is sorted. Gather is how many bytes it sorts in memory, 32 MB if 0.
	Segment, Gather int
}

// Store is the durable projection. One goroutine writes; anybody reads.
type Store struct {
	dir  string
	opts Options
	// scratch is where Verify works, if not beside dir.
	scratch string
	db      *pebble.DB
	at      cursor
	keys    writer
	begin   uint64 // the sequence that it begins after, 0 for that of the log
	folded  atomic.Uint64
	broken  atomic.Pointer[string] // what Pebble says it cannot go on after
	gaveUp  chan struct{}          // closed when broken is set
	// stuck has the answer of a write that waits for a disk which takes nothing.
	stuck <-chan error
	// serving is set once the objects are loaded: from then on damage is mended at
	// the next start, up to then at once.
	serving atomic.Bool
	marked  atomic.Bool
	filling *filler // what Fill has begun, nil otherwise
	tables  sstable.WriterOptions
	// verifying is held by Verify, which has one directory to work in.
	verifying sync.Mutex
}

var (
	_ live.Store     = (*Store)(nil)
	_ history.Reader = (*Store)(nil)
)

// Open opens the projection in a directory, making it if it is not there. A
// damaged one, and one of another version, is moved to "<dir>.damaged" in place
// of the one that was put there before, with a warning, and an empty one is
// made, which the log then fills.
func Open(dir string, opts Options) (*Store, error) {
	if opts.FS == nil {
		opts.FS = vfs.Default
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	s := &Store{dir: dir, opts: opts}
	err := s.open()
	if err == nil {
		return s, nil
	}
	if outside(err) {
		return nil, fmt.Errorf("cannot open the projection in %s: %w", dir, err)
	}
	if err := s.startOver(err); err != nil {
		return nil, err
	}
	return s, nil
}

// outside says whether a failure has its cause outside of the database, so that
// to make it anew would not help.
func outside(err error) bool {
	for _, cause := range []error{
		os.ErrPermission, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EMFILE, syscall.ENFILE, syscall.ENOTDIR,
		syscall.EAGAIN, syscall.ENOMEM, errInUse,
	} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}

var (
	errInUse = errors.New("another process has it open; stop that first")
	errFound = errors.New("damage was found when it was last used")
)

// damageMark is a file in the directory that says that the database is damaged
// where opening it would not show.
const damageMark = "DAMAGED"

func (s *Store) open() error {
	lock, err := pebble.LockDirectory(s.dir, s.opts.FS)
	if errors.Is(err, os.ErrNotExist) {
		if err := s.opts.FS.MkdirAll(s.dir, 0o700); err != nil {
			return err
		}
		lock, err = pebble.LockDirectory(s.dir, s.opts.FS)
	}
	if err != nil && !outside(err) {
		return fmt.Errorf("%w (%w)", errInUse, err)
	}
	if err != nil {
		return err
	}
	defer lock.Close() // the database takes a reference of its own
	// What a process that ended while it verified has left; links to tables keep their space.
	for _, left := range [...]string{".stored", ".verify"} {
		if err := s.opts.FS.RemoveAll(s.dir + left); err != nil {
			s.opts.Log.Warn("cannot remove what is left of a verification", "dir", s.dir+left, "error", err)
		}
	}
	if _, err := s.opts.FS.Stat(s.opts.FS.PathJoin(s.dir, damageMark)); err == nil {
		return errFound
	}
	s.gaveUp = make(chan struct{})
	cache := pebble.NewCache(32 << 20)
	defer cache.Unref()
	o := &pebble.Options{
		FS: s.opts.FS, Lock: lock, Cache: cache, Logger: (*logger)(s), DisableWAL: true,
		// Without this a disk that is full would make Commit wait for ever.
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { (*logger)(s).Fatalf("%v", err) },
			DataCorruption:  func(info pebble.DataCorruptionInfo) { s.found(info.Path) },
		},
		// Pebble keeps the smaller tables that it grew through beside two of these (decision 0391).
		MemTableSize: cmp.Or(s.opts.MemTable, 4<<20), FormatMajorVersion: pebble.FormatNewest,
		// Keys of objects are written in no order, so that each compaction of the first
		// level writes most of the next one anew: the fewer there are, the better. Who
		// reads looks into some more tables. What is written meanwhile need not wait.
		L0CompactionThreshold: 24, L0StopWritesThreshold: 64,
	}
	for i := range o.Levels {
		// What is read is mostly runs of steps, each of a few hundred bytes.
		o.Levels[i].BlockSize, o.Levels[i].IndexBlockSize = 32<<10, 256<<10
	}
	// What a crash has left.
	if err := s.opts.FS.RemoveAll(s.opts.FS.PathJoin(s.dir, fillDir)); err != nil {
		return err
	}
	o.EnsureDefaults()
	// As for the first level: what is written for the last has no deletions that count.
	s.tables = o.MakeWriterOptions(0, o.FormatMajorVersion.MaxTableFormat())
	db, err := pebble.Open(s.dir, o)
	if err != nil {
		return err
	}
	at, err := readCursor(db)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	begin, err := readBegin(db)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	s.db, s.at, s.begin = db, at, begin
	s.folded.Store(at.sequence)
	return nil
}

func readCursor(r pebble.Reader) (cursor, error) {
	value, closer, err := r.Get([]byte{cursorKey})
	if errors.Is(err, pebble.ErrNotFound) {
		return cursor{}, nil
	}
	if err != nil {
		return cursor{}, err
	}
	defer closer.Close()
	return decodeCursor(value)
}

// startOver moves the database aside and opens an empty one.
func (s *Store) startOver(because error) error {
	aside := s.dir + ".damaged"
	s.opts.Log.Warn("the projection cannot be used; it is moved aside and rebuilt from the log, which is whole",
		"dir", s.dir, "moved-to", aside, "because", because)
	fs := s.opts.FS
	if s.db != nil {
		if err := s.db.Close(); err != nil {
			s.opts.Log.Debug("closing the damaged projection", "error", err)
		}
		s.db = nil
	}
	s.broken.Store(nil)
	s.marked.Store(false)
	if err := fs.RemoveAll(aside); err != nil {
		return fmt.Errorf("cannot remove %s to make room for the damaged projection: %w", aside, err)
	}
	if err := fs.Rename(s.dir, aside); err != nil {
		return fmt.Errorf("cannot move the damaged projection %s aside: %w; remove it by hand", s.dir, err)
	}
	if err := s.open(); err != nil {
		return fmt.Errorf("cannot make a new projection in %s: %w", s.dir, err)
	}
	return nil
}

// Close writes what is in memory and closes the database. What cannot be written
// is folded again after the next start.
func (s *Store) Close() error {
	if s.scratch != "" {
		return s.db.Close()
	}
	err := s.failure()
	if err == nil {
		err = s.Filled()
	}
	if err == nil {
		err = s.flush()
	}
	if s.stuck != nil {
		select {
		case <-s.stuck: // The disk takes writes again.
		case <-time.After(lastChance):
			return err // Open, as a crash would leave it.
		}
	}
	return errors.Join(err, s.db.Close())
}

// lastChance is how long Close waits for a disk that takes no writes.
const lastChance = 5 * time.Second

// flush writes what is in memory. Where that fails, as on a full disk, Pebble
// alone would try for ever.
func (s *Store) flush() error {
	flushed, err := s.db.AsyncFlush()
	if err != nil {
		return err
	}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-flushed:
			return nil
		case <-look.C:
			if err := s.failure(); err != nil {
				return err
			}
		}
	}
}

// Folded implements history.Reader.
func (s *Store) Folded() uint64 { return s.folded.Load() }

// Commit implements live.Store.
func (s *Store) Commit(batch []events.Event, changes []projections.Change) error {
	outcomes := projections.Outcomes(batch, changes)
	if err := errors.Join(s.failure(), s.Filled()); err != nil {
		return err
	}
	for len(batch) > 0 && batch[0].Sequence <= s.at.sequence {
		batch, outcomes = batch[1:], outcomes[1:]
	}
	if len(batch) == 0 {
		return nil
	}
	b := s.db.NewBatchWithSize(size(batch, outcomes))
	defer func() {
		if s.stuck == nil {
			b.Close()
		}
	}()
	if err := s.keys.write(b, batch, outcomes); err != nil {
		return err
	}
	last := &batch[len(batch)-1]
	at := cursor{last.Sequence, last.Chain}
	if err := b.Set([]byte{cursorKey}, at.encode(), nil); err != nil {
		return err
	}
	if err := s.apply(b); err != nil {
		return err
	}
	if err := s.failure(); err != nil {
		return err
	}
	s.at = at
	s.folded.Store(at.sequence)
	return nil
}

// apply writes a batch. Pebble lets a write wait while what came before cannot be
// flushed, and tries that for ever; once is enough to be told.
func (s *Store) apply(b *pebble.Batch) error {
	done := make(chan error, 1)
	go func() { done <- b.Commit(pebble.NoSync) }()
	select {
	case err := <-done:
		return err
	case <-s.gaveUp:
		s.stuck = done
		return s.failure()
	}
}

// failure says why the database cannot be written any more, if so.
func (s *Store) failure() error {
	if why := s.broken.Load(); why != nil {
		return fmt.Errorf("cannot write the projection in %s: %s; see that the disk has room and is sound, and start again", s.dir, *why)
	}
	return nil
}

// logger passes on what Pebble has to say. After Fatalf the Store refuses to
// write, rather than end the process as Pebble would have it.
type logger Store

// Infof is pebble.Logger's.
func (l *logger) Infof(string, ...any) {}

// Errorf is pebble.Logger's.
func (l *logger) Errorf(format string, args ...any) {
	l.opts.Log.Error("projection: "+fmt.Sprintf(format, args...), "dir", l.dir)
}

// Fatalf is pebble.Logger's.
func (l *logger) Fatalf(format string, args ...any) {
	why, _, _ := strings.Cut(fmt.Sprintf(format, args...), "\n")
	if strings.Contains(why, "corruption") {
		(*Store)(l).mark()
		why += "; it will be rebuilt at the next start"
	}
	// Pebble tries again many times a second; once is enough to be told.
	if l.broken.CompareAndSwap(nil, &why) {
		close(l.gaveUp)
		l.Errorf("%s", why)
	}
}

// found takes note of a damaged file. What is read from it fails; the rest goes
// on.
func (s *Store) found(path string) {
	if s.serving.Load() && s.mark() {
		s.opts.Log.Error("the projection is damaged: some questions about the past cannot be answered; restart the server, and it will be rebuilt from the log", "file", path)
	}
}

// mark has the database rebuilt at the next start. It says whether it was not
// to be before.
func (s *Store) mark() bool {
	if !s.marked.CompareAndSwap(false, true) {
		return false
	}
	f, err := s.opts.FS.Create(s.opts.FS.PathJoin(s.dir, damageMark), vfs.WriteCategoryUnspecified)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		s.opts.Log.Error("cannot mark the projection as damaged; remove its directory before the next start", "dir", s.dir, "error", err)
	}
	return true
}

// DumpKeys writes every key and value, a line each, in order: two stores are the
// same exactly if their dumps are.
func (s *Store) DumpKeys(w io.Writer) (err error) {
	iter, err := s.db.NewIter(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	for iter.First(); iter.Valid(); iter.Next() {
		if _, err := fmt.Fprintf(w, "%q %q\n", iter.Key(), iter.Value()); err != nil {
			return err
		}
	}
	return nil
}
