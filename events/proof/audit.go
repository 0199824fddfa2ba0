package proof

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/reprise-run/reprise/events"
)

// Held is a checkpoint that an auditor holds apart from the log, its signature
// checked.
type Held struct {
	Checkpoint
	// From says where it comes from, in words that fit after "the checkpoint".
	From string
}

// Finding says what is wrong with a log, and where.
type Finding struct {
	// First and Last bound the first bad sequence: they are the same where it is
	// known.
	First, Last uint64
	// Reason is what was found.
	Reason string
}

func (f *Finding) Error() string {
	if f.First == f.Last {
		return fmt.Sprintf("the log was altered or damaged; the first bad sequence is %d: %s", f.First, f.Reason)
	}
	return fmt.Sprintf("the log was altered or damaged; the first bad sequence is one of %d to %d: %s", f.First, f.Last, f.Reason)
}

// Piece is a run of events that was checked by itself: that its events follow each
// other. Pieces can be made side by side, and are then given to an Audit in order.
type Piece struct {
	// first is the event whose link to the one before is still to be checked.
	first  events.Event
	chains [][32]byte
	leaves []Hash
	signed []recorded
	broken *Finding // what ends the piece; chains and leaves go up to it
}

// recorded is an event that records a checkpoint.
type recorded struct {
	sequence uint64
	note     []byte
	err      error
}

// Inspect checks a run of events as far as that can be done without what is before
// it. It keeps the first event, and nothing else of the run.
func Inspect(run []events.Event) *Piece {
	p := &Piece{chains: make([][32]byte, 0, len(run)), leaves: make([]Hash, 0, len(run))}
	if len(run) == 0 {
		return p
	}
	p.first = run[0]
	good := len(run)
	if _, err := events.VerifyChain(run[0].Sequence, run[0].Chain, run[1:]); err != nil {
		p.broken = finding(err)
		good = int(p.broken.First - run[0].Sequence)
	}
	for i := range run[:good] {
		e := &run[i]
		p.chains = append(p.chains, e.Chain)
		p.leaves = append(p.leaves, Leaf(e.Chain))
		if signed, err := Recorded(e); signed != nil || err != nil {
			p.signed = append(p.signed, recorded{e.Sequence, signed, err})
		}
	}
	return p
}

func finding(err error) *Finding {
	var chain *events.ChainError
	if errors.As(err, &chain) {
		return &Finding{chain.Sequence, chain.Sequence, chain.Reason}
	}
	return &Finding{Reason: err.Error()}
}

// lag is how far an event that records a checkpoint may be behind what it speaks
// of and be compared.
const lag = 1 << 16

// Audit compares a log, read from its first event, with the checkpoints that are
// held of it and with those that it records. It is a fold: give it the events in
// order, and ask it at the end.
type Audit struct {
	held  []Held // those that are still to be compared, by size
	keys  []note.Verifier
	reach uint64
	// trees are those that were compared last, the oldest first. All are behind the
	// events taken, because what an event records is the tree of some time before.
	trees []Tree
	// chains and leaves are those of the events after the oldest of the trees.
	chains [][32]byte
	leaves []Hash
	size   uint64   // the last event taken
	chain  [32]byte // of that event
	agreed uint64   // the largest checkpoint that did
	// How many checkpoints agreed.
	heldCount, recordedCount int
	strangers                []Stranger
	found                    *Finding
}

// Stranger is a key that is not among those to trust, and has signed checkpoints that
// the log records. The owner may have replaced the key; or whoever wrote the log anew
// signed it by one of his own.
type Stranger struct {
	// Key is its name and hash, as KeyID prints them.
	Key string
	// First is the event that records the first of its checkpoints, and Count how many
	// there are.
	First uint64
	Count int
	// Sure is the last event that a checkpoint vouched for when First was met.
	Sure uint64
}

// memory is how many trees an audit keeps. A checkpoint is recorded soon after it
// was signed, with few others signed between.
const memory = 4

// NewAudit returns an audit with the checkpoints that are held, and the keys that are
// trusted to have signed those in the log. Without keys the latter are not looked at.
func NewAudit(held []Held, keys ...note.Verifier) *Audit {
	held = slices.Clone(held)
	slices.SortStableFunc(held, func(a, b Held) int { return cmp.Compare(a.Size, b.Size) })
	a := &Audit{held: held, keys: keys, trees: make([]Tree, 1)}
	if n := len(held); n > 0 {
		a.reach = held[n-1].Size
	}
	return a
}

// Reach is the size of the largest checkpoint that is held: how far a log must go.
func (a *Audit) Reach() uint64 { return a.reach }

// Taken is the sequence of the last event that was taken and found good.
func (a *Audit) Taken() uint64 { return a.size }

// Compared says how many checkpoints have agreed with the log: of those held, and
// of those in the log.
func (a *Audit) Compared() (held, recorded int) { return a.heldCount, a.recordedCount }

// Strangers are the keys not to be trusted by which checkpoints are signed that the
// log records, in the order in which they were met.
func (a *Audit) Strangers() []Stranger { return a.strangers }

// Found is what was found so far, nil if nothing.
func (a *Audit) Found() *Finding { return a.found }

// Take takes the events that follow those before. After it has found something it
// takes no more.
func (a *Audit) Take(run []events.Event) *Finding {
	if len(run) == 0 {
		return a.found
	}
	return a.Join(Inspect(run))
}

// Join takes a piece that follows what was taken before.
func (a *Audit) Join(p *Piece) *Finding {
	if a.found != nil || len(p.chains) == 0 {
		return a.found
	}
	if _, err := events.VerifyChain(a.size, a.chain, []events.Event{p.first}); err != nil {
		return a.fail(finding(err))
	}
	a.chains = append(a.chains, p.chains...)
	a.leaves = append(a.leaves, p.leaves...)
	a.size += uint64(len(p.chains))
	a.chain = p.chains[len(p.chains)-1]
	for _, r := range p.signed {
		if f := a.compareRecorded(r); f != nil {
			return a.fail(f)
		}
	}
	if f := a.compareHeld(a.size); f != nil {
		return a.fail(f)
	}
	if a.size > lag && a.trees[len(a.trees)-1].size < a.size-lag {
		a.at(a.size - lag)
	}
	if p.broken != nil {
		return a.fail(p.broken)
	}
	return nil
}

// fail keeps a finding, unless the checkpoints before it tell of an earlier one.
func (a *Audit) fail(f *Finding) *Finding {
	if a.found == nil {
		if earlier := a.compareHeld(a.size); earlier != nil {
			f = earlier
		}
		a.found = f
	}
	return a.found
}

// End says that the log has no more events, and returns what was found.
func (a *Audit) End() *Finding {
	if a.found != nil {
		return a.found
	}
	if a.reach > a.size {
		h := a.held[len(a.held)-1]
		return a.fail(&Finding{a.size + 1, a.size + 1, fmt.Sprintf(
			"the log ends before it, and the checkpoint %s was signed over %d events: the last %d are missing", h.From, h.Size, h.Size-a.size)})
	}
	return nil
}

// Tree returns the tree of all that was taken.
func (a *Audit) Tree() Tree { return a.at(a.size).Clone() }

// at returns the tree at a size that was reached, nil if that is too long ago.
func (a *Audit) at(size uint64) *Tree {
	i := len(a.trees) - 1
	for i >= 0 && a.trees[i].size > size {
		i--
	}
	if i < 0 || a.trees[i].size == size {
		return a.pick(i)
	}
	t := a.trees[i].Clone()
	for from := a.trees[0].size; t.size < size; {
		n := t.size - from
		t.addLeaf(a.chains[n], a.leaves[n])
	}
	if i < len(a.trees)-1 {
		return &t
	}
	a.trees = append(a.trees, t)
	if len(a.trees) > memory {
		gone := a.trees[1].size - a.trees[0].size
		a.trees, a.chains, a.leaves = a.trees[1:], a.chains[gone:], a.leaves[gone:]
	}
	return &a.trees[len(a.trees)-1]
}

func (a *Audit) pick(i int) *Tree {
	if i < 0 {
		return nil
	}
	return &a.trees[i]
}

// compareHeld compares the log with the checkpoints that are held up to a size.
func (a *Audit) compareHeld(size uint64) *Finding {
	for len(a.held) > 0 && a.held[0].Size <= size {
		h := a.held[0]
		a.held = a.held[1:]
		if f := a.compare(h.Checkpoint, "the checkpoint "+h.From); f != nil {
			return f
		}
		a.heldCount++
	}
	return nil
}

// compareRecorded compares the log with a checkpoint that it records itself.
func (a *Audit) compareRecorded(r recorded) *Finding {
	if len(a.keys) == 0 {
		return nil
	}
	bad := func(format string, args ...any) *Finding {
		return &Finding{r.sequence, r.sequence, "it records a checkpoint that is not to be trusted: " + fmt.Sprintf(format, args...)}
	}
	if r.err != nil {
		return bad("%v", r.err)
	}
	c, err := Open(r.note, a.keys...)
	var by *KeyError
	if errors.As(err, &by) {
		a.meet(strings.Join(by.Signed, ", "), r.sequence)
		return nil
	}
	if err != nil {
		return bad("%v", err)
	}
	if c.Size >= r.sequence {
		return bad("it speaks of %d events, and is recorded at %d", c.Size, r.sequence)
	}
	// What is held of smaller sizes comes first: the tree only grows.
	if f := a.compareHeld(c.Size); f != nil {
		return f
	}
	// A signer may have stood still between signing and recording. What comes so
	// late that its tree is forgotten proves nothing for or against the log.
	if a.at(c.Size) == nil {
		return nil
	}
	if f := a.compare(c, fmt.Sprintf("the checkpoint that event %d records", r.sequence)); f != nil {
		return f
	}
	a.recordedCount++
	return nil
}

// meet counts a checkpoint that is signed by a key that is not known.
func (a *Audit) meet(key string, sequence uint64) {
	for i := range a.strangers {
		if a.strangers[i].Key == key {
			a.strangers[i].Count++
			return
		}
	}
	// A log has a key or two; one that has very many was made to be a burden.
	if len(a.strangers) < 100 {
		a.strangers = append(a.strangers, Stranger{Key: key, First: sequence, Count: 1, Sure: a.agreed})
	}
}

// compare compares the log with one checkpoint, whose size it has reached and has
// the tree of.
func (a *Audit) compare(c Checkpoint, what string) *Finding {
	if t := a.at(c.Size); t.Root() == c.Root && t.chain == c.Chain {
		a.agreed = max(a.agreed, c.Size)
		return nil
	}
	return &Finding{min(a.agreed+1, c.Size), c.Size, fmt.Sprintf(
		"the events fit each other, but %s, signed at %s over the first %d, is of others: they were written anew", what, c.Time.Format("2006-01-02 15:04:05Z07:00"), c.Size)}
}
