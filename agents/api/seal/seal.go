// Package seal keeps the values of Secrets, and of what else an encryption
// configuration lists, unreadable in the log. agents/api/storage has a document
// sealed before it becomes an event and opened where it comes back, so the
// committer, the log, the projections, archives, feeds of events and integrators
// only ever see sealed values; the metadata and the names of the keys stay
// readable.
//
//	values ── an object's key ──► in the log, for ever
//	            an object's key ── cluster key ──► in the vault, until the object goes
//	                                 cluster key ──► in a file, or by a KMS plugin
//
// # Order
//
// An object's key is durable in the vault before the event with the first value
// that it seals is appended; after the event that removes the object, the key is
// erased, and from then on nobody can read what the object said, in no part of its
// history. If a crash comes between, Run finds the keys that have no object and
// erases them.
//
// It never writes to the log, and never erases the key of an object that is there.
package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/lru"

	"github.com/reprise-run/reprise/events"
)

// Erased is the annotation of an object of the past whose key was destroyed.
const Erased = "reprise.run/erased"

const erasedText = "the key was destroyed when the object was deleted; its values can no longer be read"

// Unreadable is the annotation of an object that is shown without values although
// its key was not destroyed.
const Unreadable = "reprise.run/unreadable"

const unreadableText = "its values cannot be decrypted now; the server's log says why"

const alteredText = "its values were altered in the log, or moved there, and cannot be decrypted; " +
	"write all of them anew, or delete it; `reprise history` tells who wrote them"

// ErrErased says that the key of an object is no longer there.
var ErrErased = errors.New("its key was destroyed")

// Options configure a Keeper.
type Options struct {
	Vault  events.Vault
	Config Config
	Log    *slog.Logger
	// Grace is how old a key without an object must be to be erased: how long
	// the write that it was made for may still be on its way. Zero stands for a
	// minute.
	Grace time.Duration
	// Now is the clock that the vault's is compared with; nil for the machine's.
	Now func() time.Time
}

// Keeper holds the cluster keys, and makes, uses and destroys the keys of objects.
type Keeper struct {
	vault events.Vault
	log   *slog.Logger
	grace time.Duration
	now   func() time.Time
	ring  atomic.Pointer[ring]
	// keys are the objects' keys that were used of late, by their names.
	keys *lru.Cache
	// erased counts erasures, so that a key which was read before one is not kept
	// after it.
	erased atomic.Uint64
	// making is held for reading while a key is made, and for writing to change the
	// ring.
	making sync.RWMutex
	// rewrapping is held by the one who wraps keys anew.
	rewrapping chan struct{}
}

// cached bounds how many objects' keys are kept in memory, of 1 kB each. A list of more
// objects asks the vault for each, every time.
const cached = 65_536

// New returns a keeper. It fails if a cluster key that the vault needs is missing,
// and then has changed nothing.
func New(ctx context.Context, o Options) (*Keeper, error) {
	k := &Keeper{vault: o.Vault, log: o.Log, grace: o.Grace, now: o.Now, keys: lru.New(cached), rewrapping: make(chan struct{}, 1)}
	if k.grace == 0 {
		k.grace = time.Minute
	}
	if k.now == nil {
		k.now = time.Now
	}
	r, err := o.Config.ring(ctx, o.Vault)
	if err != nil {
		return nil, err
	}
	if err := r.check(ctx, o.Vault); err != nil {
		return nil, err
	}
	k.ring.Store(r)
	return k, nil
}

// Covers says whether the objects of a resource are sealed.
func (k *Keeper) Covers(r events.Ref) bool { return k.ring.Load().primary(r) != nil }

// Seal returns the document as the log may keep it: its values sealed, if they are
// to be. It says whether it made a key for that, which is durable when it returns.
// before is what the log has of the object now, nil for nothing: values of it that
// cannot be read any more are not overwritten by what is shown in their place.
func (k *Keeper) Seal(ctx context.Context, r events.Ref, uid string, before, doc []byte) (sealed []byte, made bool, err error) {
	if doc == nil || !sealable(r.Group, r.Resource) || !k.Covers(r) && !hasSealed(doc) && !hasSealed(before) {
		return doc, false, nil
	}
	if !events.IsCanonical(doc) {
		if doc, err = events.Canonical(doc); err != nil {
			return nil, false, fmt.Errorf("cannot encrypt %s: %w", r, err)
		}
	}
	doc, whole, err := k.unreadable(ctx, r, uid, before, doc)
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		return nil, false, err
	}
	if err != nil {
		return nil, false, fmt.Errorf("cannot encrypt %s: %w", r, err)
	}
	// A text that only looks sealed is sealed too, or it could not be told from one
	// that is.
	if whole || !k.Covers(r) && !hasSealed(doc) {
		return doc, false, nil
	}
	key, err := k.key(ctx, r, uid)
	if errors.Is(err, ErrErased) {
		key, made, err = k.create(ctx, r, uid)
	}
	if err == nil {
		sealed, err = key.sealAll(r, doc)
	}
	if err != nil {
		return nil, made, fmt.Errorf("cannot encrypt %s: %w", r, err)
	}
	return sealed, made, nil
}

// create makes an object's key, and says whether it did or found one made.
func (k *Keeper) create(ctx context.Context, r events.Ref, uid string) (*objectKey, bool, error) {
	if !events.VaultName(keyName(uid)) {
		return nil, false, fmt.Errorf("its uid %q is not one that the API gives", uid)
	}
	secret := newSecret()
	key, err := newObjectKey(secret, r, uid)
	if err != nil {
		return nil, false, err
	}
	before := k.erased.Load()
	err = k.put(ctx, r, uid, secret)
	if errors.Is(err, events.ErrKept) {
		key, err = k.key(ctx, r, uid) // Another server was faster.
		return key, false, err
	}
	if err != nil {
		// It may be there all the same.
		return nil, true, err
	}
	k.remember(uid, key, before)
	return key, true, nil
}

// put keeps an object's key in the vault, wrapped by the cluster key that is in use.
func (k *Keeper) put(ctx context.Context, r events.Ref, uid string, secret []byte) error {
	k.making.RLock()
	defer k.making.RUnlock()
	value, err := k.ring.Load().wrapper(r).wrap(r, uid, secret)
	if err != nil {
		return err
	}
	return k.vault.Create(ctx, keyName(uid), value)
}

// remember keeps a key in memory, unless one was erased since it was read: it may
// have been that one.
func (k *Keeper) remember(uid string, key *objectKey, before uint64) {
	k.keys.Add(keyName(uid), key)
	if k.erased.Load() != before {
		k.keys.Remove(keyName(uid))
	}
}

// key finds an object's key. It fails with ErrErased if there is none.
func (k *Keeper) key(ctx context.Context, r events.Ref, uid string) (*objectKey, error) {
	name := keyName(uid)
	if key, ok := k.keys.Get(name); ok {
		if key := key.(*objectKey); bytes.Equal(key.bound, bind(r, uid)) {
			return key, nil
		}
		return nil, fmt.Errorf("uid %s is another object's", uid)
	}
	before := k.erased.Load()
	kept, err := k.vault.Get(ctx, name)
	if errors.Is(err, events.ErrNotKept) {
		return nil, ErrErased
	}
	if err != nil {
		return nil, err
	}
	rec, _, err := recordOf(kept)
	if err != nil {
		return nil, err
	}
	if events.Ref(rec.Object) != r || rec.UID != uid {
		return nil, fmt.Errorf("uid %s is that of %s", uid, events.Ref(rec.Object))
	}
	secret, err := k.ring.Load().unwrap(rec)
	if err != nil {
		return nil, err
	}
	key, err := newObjectKey(secret, r, uid)
	if err != nil {
		return nil, err
	}
	k.remember(uid, key, before)
	return key, nil
}

// Open returns the document with its values, as it was before it was sealed. It
// fails with ErrErased if the object's key is gone.
func (k *Keeper) Open(ctx context.Context, r events.Ref, uid string, doc []byte) ([]byte, error) {
	if !sealable(r.Group, r.Resource) || !hasSealed(doc) {
		return doc, nil
	}
	key, err := k.key(ctx, r, uid)
	if err != nil {
		return nil, fmt.Errorf("cannot decrypt %s: %w", r, err)
	}
	opened, err := key.openAll(r, doc)
	if err != nil {
		return nil, fmt.Errorf("cannot decrypt %s: %w; `reprise history %[1]s` tells who wrote it, and a copy of the data directory of before has it whole", r, err)
	}
	return opened, nil
}

// Reveal is Open for who can do with less: where the key is gone it returns the document
// with empty values and the annotation Erased, and where values were altered with the
// annotation Unreadable, which says what to do. Trying again would not help with either.
func (k *Keeper) Reveal(ctx context.Context, r events.Ref, uid string, doc []byte) ([]byte, error) {
	opened, err := k.Open(ctx, r, uid, doc)
	switch {
	case errors.Is(err, ErrErased):
		return blank(r, doc, Erased, erasedText)
	case errors.Is(err, errAltered):
		k.log.Error("an object cannot be decrypted; it is shown without its values", "object", r.String(), "error", err)
		return blank(r, doc, Unreadable, alteredText)
	}
	return opened, err
}

// Forget destroys the key of an object that is gone, or was never there. If that
// fails, Run tries again.
func (k *Keeper) Forget(ctx context.Context, r events.Ref, uid string) {
	if uid != "" && sealable(r.Group, r.Resource) {
		_ = k.erase(ctx, r, uid) // It has said so.
	}
}

func (k *Keeper) erase(ctx context.Context, r events.Ref, uid string) error {
	err := k.vault.Erase(ctx, keyName(uid))
	k.erased.Add(1)
	k.keys.Remove(keyName(uid))
	if err != nil {
		k.log.Warn("the key of an object that is gone is still there; it will be erased later", "object", r.String(), "error", err)
	}
	return err
}

// keyName is where the vault keeps an object's key.
func keyName(uid string) string { return objectPrefix + uid }

const (
	objectPrefix  = "object-"
	clusterPrefix = "cluster-"
)
