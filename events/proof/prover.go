package proof

import (
	"fmt"
	"iter"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reprise-run/reprise/events"
)

// Chains yields the Chains of events first to last, in order: what a log or a
// projection has of each.
type Chains func(first, last uint64) iter.Seq2[[32]byte, error]

// ChainsOf returns the chains of events that are read one after the other.
func ChainsOf(read func(first, last uint64) iter.Seq2[events.Event, error]) Chains {
	return func(first, last uint64) iter.Seq2[[32]byte, error] {
		return func(yield func([32]byte, error) bool) {
			for e, err := range read(first, last) {
				if !yield(e.Chain, err) || err != nil {
					return
				}
			}
		}
	}
}

// tileLevel is the level of the subtrees whose hashes a Prover keeps: those of
// 256 events each. What lies below is computed again when it is needed. For a
// million events that is 125 kB.
const tileLevel = 8

// Prover proves what others doubt. It reads each chain once, the first time that
// somebody asks beyond it, and for a proof again a few hundred. It does not check
// what it reads: a proof from wrong chains convinces nobody. Its methods may be
// called side by side.
type Prover struct {
	read Chains

	mu sync.Mutex
	// kept[k] has the hashes of the whole subtrees at level tileLevel+k, from the
	// left.
	kept [][]Hash
}

// NewProver returns a prover for the log of the chains.
func NewProver(read Chains) *Prover { return &Prover{read: read, kept: make([][]Hash, 1)} }

// Tree returns the tree of the first events.
func (p *Prover) Tree(size uint64) (Tree, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.keep(size); err != nil {
		return Tree{}, err
	}
	t := Tree{size: size}
	at := uint64(0)
	for level := 63; level >= 0; level-- {
		if size&(1<<level) == 0 {
			continue
		}
		h, err := p.subtree(level, at>>level)
		if err != nil {
			return Tree{}, err
		}
		t.edge = append(t.edge, h)
		at += 1 << level
	}
	if size == 0 {
		return t, nil
	}
	last, err := p.chains(size, size)
	if err != nil {
		return Tree{}, err
	}
	t.chain = last[0]
	return t, nil
}

// Inclusion proves that the event at a sequence is in the tree of the first size
// events. CheckInclusion checks it.
func (p *Prover) Inclusion(sequence, size uint64) (Path, error) {
	if sequence == 0 || sequence > size {
		return nil, fmt.Errorf("event %d is not in the first %d", sequence, size)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.keep(size); err != nil {
		return nil, err
	}
	path, err := tlog.ProveRecord(int64(size), int64(sequence-1), tlog.HashReaderFunc(p.hashes))
	return Path(path), err
}

// Consistency proves that the tree of the first newer events grew out of that of
// the first older. CheckConsistency checks it.
func (p *Prover) Consistency(older, newer uint64) (Path, error) {
	if older > newer {
		return nil, fmt.Errorf("a tree of %d events cannot have grown out of one of %d", newer, older)
	}
	if older == 0 || older == newer {
		return Path{}, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.keep(newer); err != nil {
		return nil, err
	}
	path, err := tlog.ProveTree(int64(newer), int64(older), tlog.HashReaderFunc(p.hashes))
	return Path(path), err
}

// keep computes the hashes to be kept up to a size.
func (p *Prover) keep(size uint64) error {
	have := uint64(len(p.kept[0])) << tileLevel
	whole := size >> tileLevel << tileLevel
	if have >= whole {
		return nil
	}
	var t Tree
	next := have
	for chain, err := range p.read(have+1, whole) {
		if err != nil {
			return fmt.Errorf("cannot read the chains after event %d: %w", next, err)
		}
		next++
		if t.Add(chain); t.size == 1<<tileLevel {
			p.add(t.edge[0])
			t = Tree{edge: t.edge[:0]}
		}
	}
	if next != whole {
		return fmt.Errorf("there are only %d events, and %d are to be proven", next, size)
	}
	return nil
}

// add adds a hash at tileLevel and what becomes whole by it above.
func (p *Prover) add(h Hash) {
	for k := 0; ; k++ {
		if k == len(p.kept) {
			p.kept = append(p.kept, nil)
		}
		p.kept[k] = append(p.kept[k], h)
		n := len(p.kept[k])
		if n%2 == 1 {
			return
		}
		h = node(p.kept[k][n-2], h)
	}
}

// hashes is a tlog.HashReader.
func (p *Prover) hashes(indexes []int64) ([]Hash, error) {
	all := make([]Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		h, err := p.subtree(level, uint64(n))
		if err != nil {
			return nil, err
		}
		all[i] = h
	}
	return all, nil
}

// subtree returns the hash of the n-th whole subtree of a level.
func (p *Prover) subtree(level int, n uint64) (Hash, error) {
	if level >= tileLevel {
		return p.kept[level-tileLevel][n], nil
	}
	chains, err := p.chains(n<<level+1, (n+1)<<level)
	if err != nil {
		return Hash{}, err
	}
	var t Tree
	for _, chain := range chains {
		t.Add(chain)
	}
	return t.Root(), nil
}

func (p *Prover) chains(first, last uint64) ([][32]byte, error) {
	all := make([][32]byte, 0, last-first+1)
	for chain, err := range p.read(first, last) {
		if err != nil {
			return nil, fmt.Errorf("cannot read the chain of event %d: %w", first+uint64(len(all)), err)
		}
		all = append(all, chain)
	}
	if n := uint64(len(all)); n != last-first+1 {
		return nil, fmt.Errorf("there is no event %d", first+n)
	}
	return all, nil
}

// VerifyRange checks a run of events that was taken out of a log: that they follow
// the tree start, up to and including event last, and that the log of the
// checkpoint has just these in their places. grown proves that the checkpoint's
// tree grew out of the one at last; it is empty if the checkpoint is of that size.
// It returns the tree at last. Where the events are not those that were appended
// it fails with an *events.ChainError.
func VerifyRange(start Tree, last uint64, run iter.Seq2[events.Event, error], grown Path, in Checkpoint) (Tree, error) {
	t := start.Clone()
	for e, err := range run {
		if err != nil {
			return t, fmt.Errorf("cannot read the event after %d: %w", t.Size(), err)
		}
		if err := t.Take([]events.Event{e}); err != nil {
			return t, err
		}
	}
	if t.Size() != last {
		return t, &events.ChainError{Sequence: t.Size() + 1, Reason: fmt.Sprintf("the events end there, and should go on to %d", last)}
	}
	if err := CheckConsistency(grown, t.Head(), in.Head); err != nil {
		return t, fmt.Errorf("events %d to %d are not those of the checkpoint, though they fit each other: %w", start.Size()+1, last, err)
	}
	return t, nil
}
