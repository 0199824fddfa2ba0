package pebble

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// filler takes in a long log. What would go through memtables, and be written again
// by one compaction after the other, it sorts itself, and writes once, as the tables
// in which it is to lie.
//
// It takes the log in segments. The envelopes of a segment ascend, and go into tables
// as they come. The steps of histories are gathered in memory and written to files,
// each sorted by object (see run), which are merged when the segment ends. The rest is
// small and is sorted in memory. Then all tables, one of them with the cursor, are
// added to the database in one edit: what is found after a crash is the projection as
// of the end of a segment.
type filler struct {
	store     *Store
	at        cursor // of the last event taken
	taken     int    // events, in this segment
	bytes     int    // of steps, in this segment
	envelopes *tables
	causes    []consequence
	objects   map[events.Ref]*object
	lives     []life
	runs      runs
	key, data []byte
	err       error // why it is of no more use
}

// consequence says that an event followed from another.
type consequence struct{ cause, sequence uint64 }

// object is one that a segment has events of.
type object struct {
	key       string // its reference, as in keys
	life      int    // the newest of its lives that began in this segment, -1 for none
	before    bool   // it was there when the segment began
	alive     bool
	run, head int // where its steps are put: see run
}

// life is the lifetime of an object, as far as the segment tells of it.
type life struct {
	object           *object
	created, removed uint64
	uid              string // of one that began in the segment
}

// A segment ends when it has so many events, if nobody says otherwise, or bytes of
// steps.
const (
	segmentEvents = 1 << 20
	segmentBytes  = 1 << 30
)

// fillDir is where the tables are made, in the directory of the database.
const fillDir = "filling"

// Fill implements live.Store.
func (s *Store) Fill(batch []events.Event, outcomes []projections.Outcome) error {
	if s.filling == nil {
		s.filling = newFiller(s)
	}
	return s.cannotFill(s.filling.take(batch, outcomes))
}

// Filled implements live.Store.
func (s *Store) Filled() error {
	if s.filling == nil {
		return nil
	}
	err := s.filling.end()
	if err == nil {
		s.filling = nil
		err = s.opts.FS.RemoveAll(s.opts.FS.PathJoin(s.dir, fillDir))
	}
	return s.cannotFill(err)
}

func (s *Store) cannotFill(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cannot write the projection in %s: %w; see that the disk has room and is sound, and start again", s.dir, err)
}

func newFiller(s *Store) *filler {
	dir := s.opts.FS.PathJoin(s.dir, fillDir)
	f := &filler{store: s, at: s.at, err: s.opts.FS.MkdirAll(dir, 0o700)}
	f.runs.fs, f.runs.dir, f.runs.bytes = s.opts.FS, dir, cmp.Or(s.opts.Gather, runBytes)
	f.begin()
	return f
}

// begin begins a segment.
func (f *filler) begin() {
	f.taken, f.bytes = 0, 0
	f.envelopes = f.tables("envelopes")
	f.causes, f.lives = f.causes[:0], nil
	f.objects = make(map[events.Ref]*object)
}

// tables are new ones, in files that are named so.
func (f *filler) tables(name string) *tables {
	return &tables{fs: f.runs.fs, path: f.runs.fs.PathJoin(f.runs.dir, name), opts: f.store.tables, most: 4 * f.runs.bytes}
}

func (f *filler) take(batch []events.Event, outcomes []projections.Outcome) error {
	if f.err != nil {
		return f.err
	}
	for i := range batch {
		if batch[i].Sequence <= f.at.sequence {
			continue
		}
		if f.err = f.event(&batch[i], &outcomes[i]); f.err != nil {
			return f.err
		}
	}
	// Between batches, for they end with decisions.
	if f.taken >= cmp.Or(f.store.opts.Segment, segmentEvents) || f.bytes >= segmentBytes {
		return f.end()
	}
	return nil
}

func (f *filler) event(ev *events.Event, o *projections.Outcome) error {
	f.key, f.data = appendEventAt(f.key[:0], ev.Sequence), appendEvent(f.data[:0], ev)
	if err := f.envelopes.set(f.key, f.data); err != nil {
		return err
	}
	if ev.Cause != 0 {
		f.causes = append(f.causes, consequence{ev.Cause, ev.Sequence})
	}
	object := f.lived(ev, o)
	st := stepOf(ev, o)
	n, err := f.runs.add(object, ev.Sequence, &st)
	f.at = cursor{ev.Sequence, ev.Chain}
	f.taken++
	f.bytes += n
	return err
}

// lived takes note of what became of an object.
func (f *filler) lived(ev *events.Event, o *projections.Outcome) *object {
	b := f.objects[ev.Object]
	if b == nil {
		b = &object{key: string(appendRef(nil, ev.Object)), life: -1, run: -1}
		f.objects[ev.Object] = b
	}
	switch o.Kind {
	case projections.WasCreated:
		b.life, b.alive = len(f.lives), true
		f.lives = append(f.lives, life{object: b, created: ev.Sequence, uid: ev.UID})
	case projections.WasRemoved:
		b.alive = false
		if b.life >= 0 {
			f.lives[b.life].removed, b.life = ev.Sequence, -1
			break
		}
		b.before = true
		f.lives = append(f.lives, life{object: b, created: o.Created, removed: ev.Sequence})
	}
	return b
}

// end writes what a segment has, and adds it to the database.
func (f *filler) end() error {
	if f.err != nil || f.taken == 0 {
		return f.err
	}
	var paths []string
	if paths, f.err = f.write(); f.err == nil {
		f.err = f.store.add(paths, f.at)
	}
	if f.err == nil {
		f.err = f.runs.remove()
	}
	f.begin()
	return f.err
}

// write makes all tables of a segment.
func (f *filler) write() ([]string, error) {
	if err := f.runs.flush(); err != nil {
		return nil, err
	}
	ranges := f.runs.split(runtime.GOMAXPROCS(0))
	rest := f.tables("rest")
	all := []*tables{f.envelopes, rest}
	group, ctx := errgroup.WithContext(context.Background())
	group.Go(f.envelopes.close)
	group.Go(func() error { return f.rest(rest) })
	for i, r := range ranges {
		t := f.tables(fmt.Sprint("history-", i))
		all = append(all, t)
		group.Go(func() error { return f.runs.merge(ctx, r, t) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var paths []string
	for _, t := range all {
		paths = append(paths, t.paths...)
	}
	return paths, nil
}

// rest writes what is not of envelopes or histories: a table for each kind, because
// those lie between.
func (f *filler) rest(t *tables) error {
	err := t.set([]byte{cursorKey}, f.at.encode())
	slices.SortFunc(f.causes, func(a, b consequence) int {
		return cmp.Or(cmp.Compare(a.cause, b.cause), cmp.Compare(a.sequence, b.sequence))
	})
	for i := 0; i < len(f.causes) && err == nil; i++ {
		err = t.set(causeAt(f.causes[i].cause, f.causes[i].sequence), nil)
	}
	if err == nil {
		err = t.next()
	}
	slices.SortFunc(f.lives, func(a, b life) int {
		return cmp.Or(strings.Compare(a.object.key, b.object.key), cmp.Compare(a.created, b.created))
	})
	for i := 0; i < len(f.lives) && err == nil; i++ {
		var removed []byte
		if l := &f.lives[i]; l.removed != 0 {
			removed = binary.BigEndian.AppendUint64(nil, l.removed)
		}
		f.key = append(append(f.key[:0], lifeKey), f.lives[i].object.key...)
		err = t.set(binary.BigEndian.AppendUint64(f.key, f.lives[i].created), removed)
	}
	for i := 0; i < len(f.lives) && err == nil; i++ {
		if b := f.lives[i].object; i+1 == len(f.lives) || f.lives[i+1].object != b {
			err = f.presence(t, b)
		}
	}
	if err == nil {
		err = f.uids(t)
	}
	if err != nil {
		return err
	}
	return t.close()
}

// presence writes whether an object is there now.
func (f *filler) presence(t *tables, b *object) error {
	key := append(append(f.key[:0], objectKey), b.key...)
	switch {
	case b.alive:
		return t.set(key, nil)
	case b.before:
		return t.delete(key)
	}
	return nil
}

func (f *filler) uids(t *tables) error {
	slices.SortFunc(f.lives, func(a, b life) int {
		return cmp.Or(strings.Compare(a.uid, b.uid), cmp.Compare(a.created, b.created))
	})
	for i, l := range f.lives {
		if l.created <= f.store.at.sequence || i+1 < len(f.lives) && f.lives[i+1].uid == l.uid && f.lives[i+1].created > f.store.at.sequence {
			continue // The one that had the uid last counts.
		}
		if err := t.set(uidAt(l.uid), []byte(l.object.key)); err != nil {
			return err
		}
	}
	return nil
}

// add puts tables into the database, and with them the cursor.
func (s *Store) add(paths []string, at cursor) error {
	if err := s.failure(); err != nil {
		return err
	}
	// What was committed before is older, and must be below.
	if err := s.flush(); err != nil {
		return err
	}
	if err := s.db.Ingest(context.Background(), paths); err != nil {
		return err
	}
	if err := s.failure(); err != nil {
		return err
	}
	s.at = at
	s.folded.Store(at.sequence)
	return nil
}
