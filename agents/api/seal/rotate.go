package seal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/reprise-run/reprise/events"
)

// Rotation is what came of wrapping keys by other cluster keys.
type Rotation struct {
	// Keys is how many objects have a key, Rewrapped how many of those were wrapped
	// anew.
	Keys, Rewrapped int
	// By are the cluster keys that are in use now.
	By []string
}

// Rotate takes another configuration, and wraps all keys by the cluster keys that
// come first in it. What is sealed stays as it is, and no event is written. If the
// new configuration lacks a cluster key that is still needed, it fails and nothing
// has changed.
func (k *Keeper) Rotate(ctx context.Context, c Config) (Rotation, error) {
	select {
	case k.rewrapping <- struct{}{}:
		defer func() { <-k.rewrapping }()
	case <-ctx.Done():
		return Rotation{}, context.Cause(ctx)
	}
	r, err := c.ring(ctx, k.vault)
	if err != nil {
		return Rotation{}, err
	}
	if err := r.check(ctx, k.vault); err != nil {
		return Rotation{}, err
	}
	// A key that is being made by the former cluster key is in the vault, and so is
	// found below, before that cluster key is given up.
	k.making.Lock()
	k.ring.Store(r)
	k.making.Unlock()
	return k.rewrap(ctx)
}

// rewrap wraps all keys by the cluster keys that are to be used now, and erases
// the cluster keys that a plugin has encrypted and that wrap nothing any more. The
// caller holds rewrapping.
func (k *Keeper) rewrap(ctx context.Context) (done Rotation, err error) {
	r := k.ring.Load()
	used := map[string]bool{}
	for _, g := range r.groups {
		used[g.first.id] = true
	}
	done.By = slices.Sorted(maps.Keys(used))
	var clusters []events.Kept
	for kept, err := range k.vault.All(ctx) {
		if err != nil {
			return done, err
		}
		rec, ok, err := recordOf(kept)
		if err != nil {
			return done, err
		}
		if !ok {
			clusters = append(clusters, kept)
			continue
		}
		by, err := k.rewrapOne(ctx, r, kept, rec)
		if err != nil {
			return done, err
		}
		used[by] = true
		done.Keys++
		if by != rec.By {
			done.Rewrapped++
		}
	}
	for _, kept := range clusters {
		rec, err := clusterOf(kept)
		if err != nil {
			return done, err
		}
		if r.has(rec.ID) && !used[rec.ID] {
			if err := k.vault.Erase(ctx, kept.Name); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

// rewrapOne wraps a key by the cluster key that is to be used now, and returns the
// id of the one that it is wrapped by then.
func (k *Keeper) rewrapOne(ctx context.Context, r *ring, kept events.Kept, rec record) (by string, err error) {
	object := events.Ref(rec.Object)
	to := r.wrapper(object)
	if to.id == rec.By {
		return rec.By, nil
	}
	secret, err := r.unwrap(rec)
	if err != nil {
		return rec.By, err
	}
	value, err := to.wrap(object, rec.UID, secret)
	if err != nil {
		return rec.By, err
	}
	err = k.vault.Replace(ctx, kept, value)
	if errors.Is(err, events.ErrNotKept) {
		err = nil // It was erased meanwhile, or wrapped by another server.
	}
	return to.id, err
}

// check makes sure that every key in the vault can be used.
func (r *ring) check(ctx context.Context, vault events.Vault) error {
	for kept, err := range vault.All(ctx) {
		if err != nil {
			return err
		}
		rec, ok, err := recordOf(kept)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if !r.has(rec.By) {
			return fmt.Errorf("the key of %s was wrapped by cluster key %s, which is neither in the encryption configuration nor known to its KMS plugin: put that key back, as it was, behind the first one; nothing was changed: %w",
				events.Ref(rec.Object), rec.By, errNoClusterKey)
		}
		if _, err := r.unwrap(rec); err != nil {
			return err
		}
	}
	return nil
}

// clusterOf reads what the vault keeps of a cluster key.
func clusterOf(kept events.Kept) (rec clusterRecord, err error) {
	if !strings.HasPrefix(kept.Name, clusterPrefix) {
		return rec, fmt.Errorf("the vault has %s, which this version of reprise does not know: %w", kept.Name, events.ErrNewerLog)
	}
	if err := json.Unmarshal(kept.Value, &rec); err != nil {
		return rec, fmt.Errorf("%s in the vault cannot be read: %w", kept.Name, err)
	}
	return rec, nil
}
