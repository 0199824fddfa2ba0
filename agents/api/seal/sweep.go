package seal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections/live"
)

// recordOf reads what the vault keeps for an object. It says false of what it
// keeps for something else.
func recordOf(kept events.Kept) (rec record, ok bool, err error) {
	if !strings.HasPrefix(kept.Name, objectPrefix) {
		return rec, false, nil
	}
	if err := json.Unmarshal(kept.Value, &rec); err != nil {
		return rec, false, fmt.Errorf("%s in the vault cannot be read: %w", kept.Name, err)
	}
	return rec, true, nil
}

// errLeft says that a key could not be erased.
var errLeft = errors.New("a key is left")

// Run erases keys as their objects go, and those that a crash has left without an
// object, until ctx ends. All keys come to be wrapped by the cluster key that is to
// be used now. last says where the log ends.
func (k *Keeper) Run(ctx context.Context, p live.Projection, last func(context.Context) (uint64, error)) error {
	for {
		at, again, err := k.sweep(ctx, p, last)
		switch {
		case err == nil:
			err = k.followUntil(ctx, p, at, again)
		case ctx.Err() == nil:
			// What runs beside this is not to end because the vault does not answer.
			k.log.Warn("cannot look after the keys of objects; trying again", "error", err)
			err = errLeft
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errLeft):
			select {
			case <-time.After(k.grace):
			case <-ctx.Done():
				return ctx.Err()
			}
		case errors.Is(err, live.ErrTooOld), errors.Is(err, context.DeadlineExceeded):
		default:
			return err
		}
	}
}

// followUntil is follow, for a while if there is to be another sweep.
func (k *Keeper) followUntil(ctx context.Context, p live.Projection, after uint64, again bool) error {
	if again {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, k.grace)
		defer cancel()
	}
	return k.follow(ctx, p, after)
}

// follow erases the key of each object that goes.
func (k *Keeper) follow(ctx context.Context, p live.Projection, after uint64) error {
	changes, err := p.Changes(ctx, after)
	if err != nil {
		return err
	}
	for {
		batch, err := changes.Next(ctx)
		if err != nil {
			return err
		}
		for _, c := range batch {
			// What has no sealed value at its end may have had one before.
			if c.After != nil || c.Before == nil || !sealable(c.Before.Ref.Group, c.Before.Ref.Resource) {
				continue
			}
			if err := k.erase(ctx, c.Before.Ref, c.Before.UID); err != nil {
				return fmt.Errorf("%w: %w", errLeft, err)
			}
		}
	}
}

// sweep looks at every key: it erases those without an object, and wraps anew
// those that are wrapped by an older cluster key. It returns the sequence that it
// has looked at, and whether there are keys without an object that it has left: they
// could not be erased, or are so young that the write that they were made for may
// be on its way.
//
// The keys are listed first and the objects looked at as of a later moment, so that
// a key which is old enough and has no object has no write that could still come.
func (k *Keeper) sweep(ctx context.Context, p live.Projection, last func(context.Context) (uint64, error)) (at uint64, again bool, err error) {
	var all []events.Kept
	listed := k.now()
	for kept, err := range k.vault.All(ctx) {
		if err != nil {
			return 0, false, err
		}
		all = append(all, kept)
	}
	end, err := last(ctx)
	if err == nil {
		err = p.Wait(ctx, end)
	}
	if err != nil {
		return 0, false, err
	}
	view := p.View()
	erased := 0
	known := map[string]bool{}
	for _, kept := range all {
		known[kept.Name] = true
		rec, ok, err := recordOf(kept)
		if err != nil {
			return 0, false, err
		}
		if !ok {
			continue
		}
		object := events.Ref(rec.Object)
		switch e := view.Get(object); {
		case e != nil && e.UID == rec.UID:
		case listed.Sub(kept.Since) < k.grace:
			again = true
		default:
			if k.erase(ctx, object, rec.UID) != nil {
				again = true
				continue
			}
			erased++
		}
	}
	if erased > 0 {
		k.log.Info("erased keys of objects that are gone", "keys", erased)
	}
	k.miss(ctx, p, known)
	select {
	case k.rewrapping <- struct{}{}:
	case <-ctx.Done():
		return 0, false, context.Cause(ctx)
	}
	done, err := k.rewrap(ctx)
	<-k.rewrapping
	if done.Rewrapped > 0 {
		k.log.Info("wrapped keys by the cluster key that is in use now", "keys", done.Rewrapped)
	}
	return view.Sequence(), again, err
}

// miss says which objects have values and no key, which nothing can mend: the vault
// was lost, or is older than the log. Keys that came after those that are known were
// listed are looked up.
func (k *Keeper) miss(ctx context.Context, p live.Projection, known map[string]bool) {
	missing, first := 0, events.Ref{}
	view := p.View()
	for r := range view.Resources() {
		if !sealable(r.Group, r.Resource) {
			continue
		}
		for e := range view.List(r.Group, r.Resource, "") {
			if !hasSealed(e.Raw) || known[keyName(e.UID)] {
				continue
			}
			_, err := k.vault.Get(ctx, keyName(e.UID))
			if now := p.View().Get(e.Ref); !errors.Is(err, events.ErrNotKept) || now == nil || now.UID != e.UID {
				continue
			}
			if missing++; missing == 1 {
				first = e.Ref
			}
		}
	}
	if missing > 0 {
		k.log.Error("the vault has no keys for objects that are there, and nobody can read their values: stop, and put back a copy of the vault that is as new as the log, or else write the objects anew; they show without values, and nodes keep what they have", "objects", missing, "first", first.String())
	}
}
