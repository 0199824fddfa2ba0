package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/reprise-run/reprise/events"
)

// fate is what a client knows of what it proposed.
type fate int

const (
	// unknown: the answer did not come, or says so itself. It is in the log whole,
	// or not at all.
	unknown fate = iota
	// acknowledged: it is in the log from then on.
	acknowledged
	// denied: the answer says that nothing was appended, and then nothing is.
	denied
)

// tally counts what clients were told, by fate.
type tally [denied + 1]int

// String is a line of a report.
func (t tally) String() string {
	return fmt.Sprintf("%d acknowledged, %d unknown, %d denied", t[acknowledged], t[unknown], t[denied])
}

// decision is something that was proposed.
type decision struct {
	mark    string
	changes []events.Change
	fate    fate
	receipt events.Receipt
	answer  error
}

// ledger is what the clients of a log know for certain. It lies outside of all that
// is tortured.
type ledger struct {
	mu        sync.Mutex
	decisions map[string]*decision
	chain     map[uint64][32]byte // of the last event of each reading
	counts    tally
	holes     bool // whether the log may lack what nobody was told of
}

// newLedger returns an empty one, of a log that may have holes: JetStream's end may be behind
// what a power cut has left of it, and then there is nothing in between.
func newLedger(holes bool) *ledger {
	return &ledger{holes: holes, decisions: make(map[string]*decision), chain: make(map[uint64][32]byte)}
}

// marked is the note on each event, by which its decision is known again.
type marked struct {
	Mark string `json:"mark"`
}

// open enters a decision before it is proposed.
func (l *ledger) open(mark string, changes []events.Change) *decision {
	d := &decision{mark: mark, changes: changes}
	for i := range changes {
		changes[i].Note, _ = json.Marshal(marked{mark})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.decisions[mark] = d
	return d
}

// close enters what came of it.
func (l *ledger) close(d *decision, receipt events.Receipt, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var conflict *events.ConflictError
	var refused *events.RefusedError
	switch {
	case err == nil:
		d.fate, d.receipt = acknowledged, receipt
	case errors.Is(err, events.ErrUncertain):
		d.fate = unknown
	case errors.Is(err, events.ErrUnavailable), errors.As(err, &conflict), errors.As(err, &refused):
		d.fate = denied
	}
	d.answer = err
	l.counts[d.fate]++
}

// check compares the whole log with what the clients know. What it finds of the
// decisions whose fate was unknown is certain from then on, because a reader was
// told.
func (l *ledger) check(log []events.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var faults []error
	fault := func(format string, args ...any) {
		if len(faults) < 10 {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	if err := l.linked(log); err != nil {
		fault("%w", err)
	}
	last := uint64(0)
	if len(log) > 0 {
		last = log[len(log)-1].Sequence
	}
	for at, chain := range l.chain {
		i, is := slices.BinarySearchFunc(log, at, func(e events.Event, at uint64) int { return cmp.Compare(e.Sequence, at) })
		if !is || log[i].Chain != chain {
			fault("event %d was read after an earlier fault, and is gone or another (the log ends at %d)", at, last)
		}
	}
	found := make(map[string]uint64)
	for i := 0; i < len(log); {
		n, err := l.whole(log[i:], found)
		if err != nil {
			fault("%w", err)
		}
		i += n
	}
	for mark, d := range l.decisions {
		first, is := found[mark]
		switch {
		case d.fate == acknowledged && !is:
			fault("LOST: decision %s was acknowledged at %d to %d, and is not in the log, which ends at %d", mark, d.receipt.First, d.receipt.Last, last)
		case d.fate == acknowledged && first != d.receipt.First:
			fault("decision %s was acknowledged at %d and is at %d", mark, d.receipt.First, first)
		case d.fate == denied && is:
			fault("decision %s was answered %q, and is in the log at %d", mark, d.answer, first)
		case d.fate == unknown && is:
			d.fate, d.receipt = acknowledged, events.Receipt{First: first, Last: first + uint64(len(d.changes)) - 1}
		case d.fate == unknown:
			d.fate, d.answer = denied, errors.New("it was not in the log after a fault")
		}
	}
	if last > 0 {
		l.chain[last] = log[len(log)-1].Chain
	}
	return errors.Join(faults...)
}

// linked checks the hash chain, of a log with holes that of each piece.
func (l *ledger) linked(log []events.Event) error {
	if !l.holes {
		_, err := events.VerifyChain(0, [32]byte{}, log)
		return err
	}
	for from, i := 0, 1; i <= len(log); i++ {
		if i < len(log) && log[i].Sequence == log[i-1].Sequence+1 {
			continue
		}
		// What the first of a piece was linked to may be in the hole.
		if _, err := events.VerifyChain(log[from].Sequence, log[from].Chain, log[from+1:i]); err != nil {
			return err
		}
		from = i
	}
	return nil
}

// whole takes one decision off the head of a log and compares it with what was
// proposed. It returns how many events it has.
func (l *ledger) whole(log []events.Event, found map[string]uint64) (int, error) {
	n := 1
	for ; log[n-1].More; n++ {
		if n == len(log) || log[n].Sequence != log[n-1].Sequence+1 {
			return n, fmt.Errorf("HALF: the log ends, or has a hole, within the decision that begins at %d", log[0].Sequence)
		}
	}
	var note marked
	if err := json.Unmarshal(log[0].Note, &note); err != nil {
		return n, fmt.Errorf("event %d is nobody's: its note is %q", log[0].Sequence, log[0].Note)
	}
	d := l.decisions[note.Mark]
	if d == nil || len(d.changes) != n {
		return n, fmt.Errorf("HALF: the decision at %d has %d events and is not what %q proposed", log[0].Sequence, n, note.Mark)
	}
	if at, twice := found[note.Mark]; twice {
		return n, fmt.Errorf("decision %s is in the log twice, at %d and %d", note.Mark, at, log[0].Sequence)
	}
	found[note.Mark] = log[0].Sequence
	for i, c := range d.changes {
		e := &log[i]
		if e.Type != c.Type || e.Object != c.Object || !bytes.Equal(e.Data, c.Data) {
			return n, fmt.Errorf("event %d is not change %d of decision %s", e.Sequence, i, note.Mark)
		}
	}
	return n, nil
}
