package pebble

import (
	"bufio"
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// runs sorts the steps of histories by object and sequence, more of them than fit into
// memory.
//
// Of a run that is being gathered, the steps lie in the order in which they came, and
// those of an object know the next of theirs. In its file objects lie in the order of
// their keys: the key, with its length before it, how many steps follow, and of each
// its sequence, its length, and itself. Numbers are unsigned varints.
type runs struct {
	fs      vfs.FS
	dir     string
	bytes   int  // how many a run has in memory, of which there are two
	now     *run // being gathered
	spare   *run
	writing chan wrote // has what became of the run that is being written, if one is
	sorted  []*sortedRun
	begun   int // how many there were ever
}

// run is one that is being gathered.
type run struct {
	number int
	chunks [][]byte // what steps are encoded in
	free   [][]byte // chunks for more
	bytes  int      // of all steps
	steps  []heldStep
	heads  []head
}

// heldStep is a step, by its place in a chunk, and the next of the same object, 0 for
// none.
type heldStep struct {
	sequence              uint64
	chunk, from, to, next int32
}

// head is where the steps of an object are.
type head struct {
	object         *object
	n, first, last int32
}

// sortedRun is one in a file.
type sortedRun struct {
	path  string
	size  int64
	marks []mark
}

// mark is where an object lies in a file.
type mark struct {
	key string
	at  int64
}

// wrote is what came of writing a run.
type wrote struct {
	run    *run
	sorted *sortedRun
	err    error
}

// runBytes is how many bytes a run has, if nobody says otherwise.
const runBytes = 32 << 20

// add takes a step of an object, later than all before, and says how long it is.
func (r *runs) add(o *object, sequence uint64, st *step) (n int, err error) {
	if r.now != nil && r.now.bytes >= r.bytes {
		if err := r.spill(); err != nil {
			return 0, err
		}
	}
	if r.now == nil {
		r.now = emptied(r.spare)
		r.spare = nil
		r.now.number = r.begun
		r.begun++
	}
	return r.now.add(o, sequence, st), nil
}

// emptied is a run to be used again, or a new one.
func emptied(spare *run) *run {
	if spare == nil {
		return new(run)
	}
	free := spare.free
	for _, c := range spare.chunks {
		if cap(c) == chunkBytes { // A larger one was for a large step.
			free = append(free, c[:0])
		}
	}
	return &run{free: free, steps: spare.steps[:0], heads: spare.heads[:0]}
}

// chunkBytes is how large chunks are: large enough that few steps are, too.
const chunkBytes = 256 << 10

// chunk is one with room for n bytes.
func (r *run) chunk(n int) int {
	if last := len(r.chunks) - 1; last >= 0 && cap(r.chunks[last])-len(r.chunks[last]) >= n {
		return last
	}
	switch last := len(r.free) - 1; {
	case n > chunkBytes:
		r.chunks = append(r.chunks, make([]byte, 0, n))
	case last >= 0:
		r.chunks = append(r.chunks, r.free[last])
		r.free = r.free[:last]
	default:
		r.chunks = append(r.chunks, make([]byte, 0, chunkBytes))
	}
	return len(r.chunks) - 1
}

func (r *run) add(o *object, sequence uint64, st *step) int {
	in := r.chunk(len(st.uid) + len(st.data) + len(st.frame) + 5*binary.MaxVarintLen64)
	from := len(r.chunks[in])
	r.chunks[in] = st.append(r.chunks[in])
	n, at := len(r.chunks[in])-from, int32(len(r.steps))
	r.bytes += n
	r.steps = append(r.steps, heldStep{sequence: sequence, chunk: int32(in), from: int32(from), to: int32(from + n)})
	if o.run != r.number {
		o.run, o.head = r.number, len(r.heads)
		r.heads = append(r.heads, head{object: o, n: 1, first: at, last: at})
	} else {
		h := &r.heads[o.head]
		r.steps[h.last].next, h.last = at, at
		h.n++
	}
	return n
}

// spill has the run written while others are gathered.
func (r *runs) spill() error {
	if err := r.wait(); err != nil {
		return err
	}
	full, path := r.now, r.fs.PathJoin(r.dir, fmt.Sprint("run-", r.now.number))
	r.now = nil
	r.writing = make(chan wrote, 1)
	go func() {
		sorted, err := full.write(r.fs, path)
		r.writing <- wrote{full, sorted, err}
	}()
	return nil
}

// wait waits until no run is being written.
func (r *runs) wait() error {
	if r.writing == nil {
		return nil
	}
	w := <-r.writing
	r.writing = nil
	if w.err != nil {
		return w.err
	}
	r.spare = w.run
	r.sorted = append(r.sorted, w.sorted)
	return nil
}

// flush has all that was added in files.
func (r *runs) flush() error {
	if r.now != nil {
		if err := r.spill(); err != nil {
			return err
		}
	}
	return r.wait()
}

// remove removes the files.
func (r *runs) remove() error {
	var errs []error
	for _, s := range r.sorted {
		errs = append(errs, r.fs.Remove(s.path))
	}
	r.sorted = nil
	return errors.Join(errs...)
}

// write sorts a run into a file.
func (r *run) write(fs vfs.FS, path string) (s *sortedRun, err error) {
	slices.SortFunc(r.heads, func(a, b head) int { return strings.Compare(a.object.key, b.object.key) })
	file, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	s = &sortedRun{path: path}
	out := make([]byte, 0, 256<<10)
	put := func(b []byte) error {
		if len(out)+len(b) <= cap(out) {
			out = append(out, b...)
			return nil
		}
		s.size += int64(len(out) + len(b))
		if _, err := file.Write(out); err != nil {
			return err
		}
		out = out[:0]
		_, err := file.Write(b)
		return err
	}
	var numbers []byte
	for i := range r.heads {
		h := &r.heads[i]
		at := s.size + int64(len(out))
		if n := len(s.marks); n == 0 || at-s.marks[n-1].at >= int64(r.bytes/32) {
			s.marks = append(s.marks, mark{h.object.key, at})
		}
		numbers = binary.AppendUvarint(numbers[:0], uint64(len(h.object.key)))
		numbers = append(numbers, h.object.key...)
		numbers = binary.AppendUvarint(numbers, uint64(h.n))
		for n, j := int32(0), h.first; n < h.n; n++ {
			held := &r.steps[j]
			numbers = binary.AppendUvarint(numbers, held.sequence)
			numbers = binary.AppendUvarint(numbers, uint64(held.to-held.from))
			if err := errors.Join(put(numbers), put(r.chunks[held.chunk][held.from:held.to])); err != nil {
				return nil, err
			}
			numbers = numbers[:0]
			j = held.next
		}
	}
	s.size += int64(len(out))
	if _, err := file.Write(out); err != nil {
		return nil, err
	}
	return s, nil
}

// keyRange is the objects whose keys are not below from, and below to if that is not
// "".
type keyRange struct{ from, to string }

// split makes about equal ranges of all objects.
func (r *runs) split(n int) []keyRange {
	var keys []string
	for _, s := range r.sorted {
		for _, m := range s.marks {
			keys = append(keys, m.key)
		}
	}
	slices.Sort(keys)
	var all []keyRange
	from := ""
	for i := 1; i < n; i++ {
		if key := keys[i*len(keys)/n]; key > from {
			all = append(all, keyRange{from, key})
			from = key
		}
	}
	return append(all, keyRange{from, ""})
}

// merge writes the steps of the objects in a range, from all files.
func (r *runs) merge(ctx context.Context, in keyRange, into *tables) (err error) {
	var all sources
	defer func() {
		for _, s := range all {
			err = errors.Join(err, s.file.Close())
		}
	}()
	for i, sorted := range r.sorted {
		file, err := r.fs.Open(sorted.path)
		if err != nil {
			return err
		}
		s := &source{number: i, file: file, in: bufio.NewReaderSize(sorted.from(file, in.from), 128<<10), to: in.to}
		all = append(all, s)
		for more := true; more && (s.key == "" || s.key < in.from); {
			if more, err = s.next(); err != nil {
				return err
			}
		}
	}
	left := slices.DeleteFunc(slices.Clone(all), func(s *source) bool { return s.key == "" })
	heap.Init(&left)
	for len(left) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		s := left[0]
		if err := s.copy(into); err != nil {
			return err
		}
		more, err := s.next()
		if err != nil {
			return err
		}
		if more {
			heap.Fix(&left, 0)
		} else {
			heap.Pop(&left)
		}
	}
	return into.close()
}

// from reads a file from the last mark on that is not behind a key.
func (s *sortedRun) from(file vfs.File, key string) io.Reader {
	i, found := slices.BinarySearchFunc(s.marks, key, func(m mark, key string) int { return strings.Compare(m.key, key) })
	if !found {
		i = max(i-1, 0)
	}
	at := s.marks[i].at
	return io.NewSectionReader(file, at, s.size-at)
}

// source is a file that is being read, at the steps of an object.
type source struct {
	number    int
	file      vfs.File
	in        *bufio.Reader
	to        string
	key       string
	steps     uint64 // of the object that are not read yet
	at, value []byte // of a step
}

// next goes to the next object, "" at the end of the file or the range.
func (s *source) next() (more bool, err error) {
	for ; s.steps > 0; s.steps-- {
		if _, _, err := s.step(); err != nil {
			return false, err
		}
	}
	s.key = ""
	n, err := binary.ReadUvarint(s.in)
	if err == io.EOF {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	key := make([]byte, n)
	if _, err = io.ReadFull(s.in, key); err == nil {
		s.steps, err = binary.ReadUvarint(s.in)
	}
	if err != nil || s.to != "" && string(key) >= s.to {
		return false, err
	}
	s.key = string(key)
	return true, nil
}

// step reads the next step.
func (s *source) step() (sequence uint64, value []byte, err error) {
	if sequence, err = binary.ReadUvarint(s.in); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(s.in)
	if err != nil {
		return 0, nil, err
	}
	s.value = slices.Grow(s.value[:0], int(n))[:n]
	_, err = io.ReadFull(s.in, s.value)
	return sequence, s.value, err
}

// copy writes the steps of the object.
func (s *source) copy(into *tables) error {
	s.at = append(append(s.at[:0], historyKey), s.key...)
	for ; s.steps > 0; s.steps-- {
		sequence, value, err := s.step()
		if err != nil {
			return err
		}
		if err := into.set(binary.BigEndian.AppendUint64(s.at, sequence), value); err != nil {
			return err
		}
	}
	return nil
}

// sources is a heap: the least object first, its oldest steps first.
type sources []*source

func (s sources) Len() int { return len(s) }
func (s sources) Less(i, j int) bool {
	if c := strings.Compare(s[i].key, s[j].key); c != 0 {
		return c < 0
	}
	return s[i].number < s[j].number
}
func (s sources) Swap(i, j int) { s[i], s[j] = s[j], s[i] }

// Push is heap.Interface's.
func (s *sources) Push(x any) { *s = append(*s, x.(*source)) }

// Pop is heap.Interface's.
func (s *sources) Pop() any {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
}
