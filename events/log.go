package events

import (
	"context"
	"errors"
)

// Log is the one ordered, append-only record of events. All implementations
// pass the contract in events/logtest.
type Log interface {
	// Append stores the events in the order given, atomically and durably, if
	// the log's last sequence is still after, and returns the last sequence
	// then. It sets nothing in the events; event i gets sequence after+1+i. If
	// somebody else has appended meanwhile it stores nothing and fails with
	// ErrStale: that is the fence that keeps a deposed committer out. After
	// ErrUncertain (wrapped) or an expired context it may have stored the batch,
	// whole; after any other error it has not, and will not. A batch has at most
	// MaxBatch events and ends at the end of a decision. The log may keep it:
	// nobody changes it, nor its events' bytes, from then on.
	Append(ctx context.Context, after uint64, batch []Event) (last uint64, err error)
	// Last returns the sequence of the newest event, 0 for an empty log.
	Last(ctx context.Context) (uint64, error)
	// First returns the sequence of the oldest event kept, 1 for the history,
	// which forgets nothing. It is Last+1 if the log is empty.
	First(ctx context.Context) (uint64, error)
	// Get returns one event. It fails with ErrNotFound beyond the log's ends.
	Get(ctx context.Context, sequence uint64) (Event, error)
	// Follow reads from a sequence onward and then waits for what comes. From
	// must be at least 1 and at most Last+1; before First it starts at First.
	Follow(ctx context.Context, from uint64) (Reader, error)
}

// MaxBatch is the most events that one Append may carry: what a JetStream
// atomic batch may hold.
const MaxBatch = 1000

// Reader is a position in a log. It is used by one goroutine.
type Reader interface {
	// Next waits until at least one event is there and returns those that are,
	// in order, each once, always ending at the end of a decision (Event.More
	// is false on the last). It never skips: on a gap it fetches what is
	// missing. The slice and its events' bytes are the caller's.
	Next(ctx context.Context) ([]Event, error)
	// Close ends the reader; a waiting Next returns an error.
	Close() error
}

var (
	// ErrStale says that the log has grown since the writer looked.
	ErrStale = errors.New("the log has moved on: another committer has appended")
	// ErrNotFound says that there is no event at that sequence.
	ErrNotFound = errors.New("no event at that sequence")
	// ErrDamaged says that the log holds what no program wrote as an event, or
	// lacks what one wrote. Reading again does not mend it.
	ErrDamaged = errors.New("the log is damaged; restore it from a copy")
)

// Volatile says that an object's changes are churn and not state: lease
// renewals and Kubernetes Event objects. They are kept in a log of their own,
// limited by age and outside of the history, in which each event carries the
// whole object (there are no patches: the version before may have aged away).
// Its sequences are not the history's.
func Volatile(r Ref) bool {
	switch r.Group {
	case "coordination.k8s.io":
		return r.Resource == "leases"
	case "", "events.k8s.io":
		return r.Resource == "events" || r.Resource == "masterleases" || r.Resource == "peerserverleases"
	}
	return false
}
