package archive

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/note"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/proof"
)

// Evidence compares an archive's events with signed checkpoints: with the one in the
// archive, and with those that an auditor holds. It takes all events in order, and
// then tells.
type Evidence struct {
	header Header
	own    *proof.Checkpoint
	signed bool
	held   []proof.Held // not compared yet, by size
	chain  [32]byte     // of the last event taken
	tree   proof.Tree
	rooted bool // the tree is known: that of the log and not only of a part of it
	agreed int
	sure   uint64 // events up to here are those of a checkpoint that is held
	beyond int
}

// NewEvidence begins to compare an archive with the checkpoints held. It fails if the
// archive's own checkpoint is none, or, if there are keys, is not signed by one, or
// speaks of none of the events.
func NewEvidence(h Header, held []proof.Held, keys ...note.Verifier) (*Evidence, error) {
	e := &Evidence{header: h, held: slices.Clone(held), chain: h.Before, rooted: h.From == 1, signed: len(keys) > 0}
	if p := h.Proof; p != nil {
		own, err := OpenCheckpoint([]byte(p.Checkpoint), keys...)
		if err != nil {
			return nil, fmt.Errorf("the checkpoint in the archive cannot be relied on: %w", err)
		}
		if own.Size < h.From-1 {
			return nil, fmt.Errorf("the checkpoint in the archive is over the first %d events, and the archive begins with event %d: it proves nothing of it", own.Size, h.From)
		}
		e.own = &own
		e.held = append(e.held, proof.Held{Checkpoint: own, From: ownCheckpoint})
		e.rooted = true
		if p.Tree != nil {
			e.tree = p.Tree.Clone()
		}
	}
	slices.SortStableFunc(e.held, func(a, b proof.Held) int { return cmp.Compare(a.Size, b.Size) })
	for len(e.held) > 0 && e.held[0].Size < h.From-1 {
		e.held = e.held[1:] // It speaks of events that are not here.
		e.beyond++
	}
	return e, nil
}

// ownCheckpoint is where an archive's own checkpoint comes from, in words.
const ownCheckpoint = "in the archive"

// ForgedError says that an archive's events are not those that a checkpoint covers,
// though they fit each other.
type ForgedError struct {
	// First and Last bound the first bad event.
	First, Last uint64
	Reason      string
}

func (e *ForgedError) Error() string {
	return fmt.Sprintf("the archive is not of the log that was signed; the first bad event is one of %d to %d: %s", e.First, e.Last, e.Reason)
}

// Unwrap makes it an events.ErrDamaged.
func (e *ForgedError) Unwrap() error { return events.ErrDamaged }

// Take takes the events that follow. It fails with a *ForgedError.
func (e *Evidence) Take(batch []events.Event) error {
	for i := range batch {
		if err := e.compare(batch[i].Sequence - 1); err != nil {
			return err
		}
		if e.chain = batch[i].Chain; e.rooted {
			e.tree.Add(e.chain)
		}
	}
	return nil
}

// compare compares the chain, and the tree if it is known, with the checkpoints of
// that size. The chain alone speaks of all events before.
func (e *Evidence) compare(size uint64) error {
	for ; len(e.held) > 0 && e.held[0].Size <= size; e.held = e.held[1:] {
		h := e.held[0]
		if e.chain != h.Chain || e.rooted && e.tree.Root() != h.Root {
			return e.forged(h.Size, h)
		}
		e.agreed++
		e.sure = h.Size
	}
	return nil
}

// Verdict says what an archive's events were found to agree with.
type Verdict struct {
	// Own is the checkpoint in the archive, nil if it has none, and Signed says that
	// one of the keys has signed it. It agrees, as far as it goes.
	Own    *proof.Checkpoint
	Signed bool
	// Held is how many of the checkpoints held agree, and Beyond how many speak of
	// other events than the archive has.
	Held, Beyond int
	// Sure is the last event that a checkpoint speaks of, below From if none does.
	Sure uint64
}

// End says what came of it, after the last event. It fails with a *ForgedError.
func (e *Evidence) End() (Verdict, error) {
	if err := e.compare(e.header.To); err != nil {
		return Verdict{}, err
	}
	v := Verdict{Own: e.own, Signed: e.own != nil && e.signed, Held: e.agreed, Beyond: e.beyond + len(e.held), Sure: e.sure}
	switch {
	case e.own == nil:
	case e.own.Size <= e.header.To:
		v.Held-- // It was one of them.
	default:
		v.Beyond--
		if err := proof.CheckConsistency(e.header.Proof.Grown, e.tree.Head(), e.own.Head); err != nil {
			return v, e.forged(e.header.To, proof.Held{Checkpoint: *e.own, From: ownCheckpoint})
		}
		v.Sure = e.header.To
	}
	return v, nil
}

func (e *Evidence) forged(last uint64, by proof.Held) error {
	first := min(max(e.header.From, e.sure+1), e.header.To)
	return &ForgedError{first, max(last, first), fmt.Sprintf("the checkpoint %s, signed over the first %d events, is of others", by.From, by.Size)}
}

// OpenCheckpoint reads a signed checkpoint. Without keys its signature is believed.
func OpenCheckpoint(signed []byte, keys ...note.Verifier) (proof.Checkpoint, error) {
	if len(keys) > 0 {
		return proof.Open(signed, keys...)
	}
	n, err := note.Open(signed, note.VerifierList())
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) {
		n, err = unverified.Note, nil
	}
	if err != nil {
		return proof.Checkpoint{}, err
	}
	return proof.ParseCheckpoint(n.Text)
}
