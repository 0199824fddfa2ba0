// Package memvault is the events.Vault in memory, for tests. It keeps nothing across
// processes.
package memvault

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/reprise-run/reprise/events"
)

// Vault is an events.Vault in memory.
type Vault struct {
	now func() time.Time

	mu       sync.Mutex
	revision uint64
	kept     map[string]events.Kept
}

var _ events.Vault = (*Vault)(nil)

// New returns an empty vault with the clock that is given.
func New(now func() time.Time) *Vault {
	return &Vault{now: now, kept: map[string]events.Kept{}}
}

// Create is events.Vault's.
func (v *Vault) Create(_ context.Context, name string, value []byte) error {
	if !events.VaultName(name) {
		return fmt.Errorf("%q cannot be a name in a vault", name)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, there := v.kept[name]; there {
		return events.ErrKept
	}
	v.put(name, value)
	return nil
}

func (v *Vault) put(name string, value []byte) {
	v.revision++
	v.kept[name] = events.Kept{Name: name, Value: bytes.Clone(value), Since: v.now(), Revision: v.revision}
}

// Get is events.Vault's.
func (v *Vault) Get(_ context.Context, name string) (events.Kept, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k, there := v.kept[name]
	if !there {
		return events.Kept{}, events.ErrNotKept
	}
	k.Value = bytes.Clone(k.Value)
	return k, nil
}

// Replace is events.Vault's.
func (v *Vault) Replace(_ context.Context, was events.Kept, value []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if k, there := v.kept[was.Name]; !there || k.Revision != was.Revision {
		return events.ErrNotKept
	}
	v.put(was.Name, value)
	return nil
}

// Erase is events.Vault's.
func (v *Vault) Erase(_ context.Context, name string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.kept, name)
	return nil
}

// All is events.Vault's.
func (v *Vault) All(context.Context) iter.Seq2[events.Kept, error] {
	return func(yield func(events.Kept, error) bool) {
		v.mu.Lock()
		all := slices.Collect(maps.Values(v.kept))
		v.mu.Unlock()
		for _, k := range all {
			k.Value = bytes.Clone(k.Value)
			if !yield(k, nil) {
				return
			}
		}
	}
}
