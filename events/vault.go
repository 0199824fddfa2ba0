package events

import (
	"context"
	"errors"
	"iter"
	"time"
)

// Vault keeps small values beside the log, where, unlike in the log, they can be
// destroyed: the keys with which values in the log are encrypted. It is as durable
// as the log, and is no part of the history, of its projections or its archives.
// All implementations pass the contract in events/logtest.
type Vault interface {
	// Create stores a value under a name that has none and returns once it is
	// durable. It fails with ErrKept if the name has one.
	Create(ctx context.Context, name string, value []byte) error
	// Get returns what is kept under a name. It fails with ErrNotKept if nothing
	// is.
	Get(ctx context.Context, name string) (Kept, error)
	// Replace stores another value in place of one that was read, durably, and
	// destroys the one before. It fails with ErrNotKept if that is not there any
	// more, so that nothing comes back that was erased meanwhile.
	Replace(ctx context.Context, was Kept, value []byte) error
	// Erase destroys what is kept under a name: no file of the vault has it
	// afterwards. To erase what is not there is no error.
	Erase(ctx context.Context, name string) error
	// All yields everything, in no order. An error ends it.
	All(ctx context.Context) iter.Seq2[Kept, error]
}

// Kept is one value of a Vault.
type Kept struct {
	// Name is of lower case letters, digits, '-' and '_'.
	Name  string
	Value []byte
	// Since is when it was stored, by the vault's clock.
	Since time.Time
	// Revision tells it apart from what was kept there before and comes after.
	Revision uint64
}

var (
	// ErrKept says that something is kept under the name already.
	ErrKept = errors.New("something is kept under that name")
	// ErrNotKept says that nothing is kept under the name, or no longer the same.
	ErrNotKept = errors.New("that is not kept, or not any more")
)

// VaultName says whether a Vault takes a name.
func VaultName(name string) bool {
	for _, r := range name {
		if !(r == '-' || r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9') {
			return false
		}
	}
	return name != "" && len(name) <= 200
}
