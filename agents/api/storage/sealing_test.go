package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3/kubernetes"

	"github.com/reprise-run/reprise/agents/api/seal"
	"github.com/reprise-run/reprise/agents/api/seal/sealtest"
	"github.com/reprise-run/reprise/agents/api/storage"
	"github.com/reprise-run/reprise/agents/api/storage/storagetest"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/memvault"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// sealedRig is a storage that seals, of which a test can see and fail each step.
type sealedRig struct {
	*kubernetes.Client
	backend *storage.Backend
	history *storagetest.Log
	vault   *memvault.Vault
	config  seal.Config

	mu    sync.Mutex
	now   time.Time
	steps []string
	fail  map[string]error // by the step that fails
}

// watched notes the steps of the vault and of the log in one order.
type watched struct {
	events.Vault
	rig *sealedRig
}

type proposing struct {
	events.Proposer
	rig *sealedRig
}

func (r *sealedRig) step(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = append(r.steps, name)
	return r.fail[name]
}

func (r *sealedRig) failing(step string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail[step] = err
}

// did returns the steps since it was last called.
func (r *sealedRig) did() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.steps = nil }()
	return strings.Join(r.steps, ", ")
}

func (w watched) Create(ctx context.Context, name string, value []byte) error {
	if err := w.rig.step("key durable"); err != nil {
		return err
	}
	return w.Vault.Create(ctx, name, value)
}

func (w watched) Erase(ctx context.Context, name string) error {
	if err := w.rig.step("key erased"); err != nil {
		return err
	}
	return w.Vault.Erase(ctx, name)
}

func (p proposing) Propose(ctx context.Context, proposal events.Proposal) (events.Receipt, error) {
	if err := p.rig.step(proposal.Changes[0].Type); err != nil {
		return events.Receipt{}, err
	}
	return p.Proposer.Propose(ctx, proposal)
}

func newSealedRig(t *testing.T) *sealedRig {
	t.Helper()
	r := &sealedRig{
		history: storagetest.NewLog(t, false), now: time.Unix(1_000_000, 0), fail: map[string]error{},
		config: sealtest.Config(t, "secrets", "one"),
	}
	r.vault = memvault.New(r.clock)
	history := r.history.Source()
	history.Proposer = proposing{history.Proposer, r}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	var err error
	r.backend, err = storage.New(ctx, storage.Options{
		History: history, Volatile: storagetest.NewLog(t, true).Source(), Sealer: r.keeper(t),
		Keys: storage.NewKeys("/registry", nil), Actor: events.Actor{Kind: "api", Version: "v1"}, Patience: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Client = r.backend.Client()
	t.Cleanup(func() { _ = r.Close() })
	r.did()
	return r
}

func (r *sealedRig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// keeper is one as after a start: it has no key in memory.
func (r *sealedRig) keeper(t *testing.T) *seal.Keeper {
	t.Helper()
	k, err := seal.New(t.Context(), seal.Options{Vault: watched{r.vault, r}, Config: r.config, Log: slog.New(slog.DiscardHandler), Now: r.clock})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// recover is what a server does with the vault after it has started.
func (r *sealedRig) recover(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := r.keeper(t).Run(ctx, recovered{r.history, cancel}, func(context.Context) (uint64, error) { return r.history.Sequence(), nil })
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func (r *sealedRig) kept(t *testing.T) (names []string) {
	t.Helper()
	for k := range r.vault.All(t.Context()) {
		names = append(names, k.Name)
	}
	slices.Sort(names)
	return names
}

const dbKey = "/registry/secrets/shop/db"

func secretOf(uid, password string) []byte {
	return fmt.Appendf(nil, `{"apiVersion":"v1","data":{"password":%q},"kind":"Secret","metadata":{"name":"db","namespace":"shop","uid":%q}}`, password, uid)
}

func (r *sealedRig) put(t *testing.T, uid, password string, expected int64) (kubernetes.PutResponse, error) {
	t.Helper()
	return r.Kubernetes.OptimisticPut(t.Context(), dbKey, secretOf(uid, password), expected, kubernetes.PutOptions{GetOnFailure: true})
}

func (r *sealedRig) mustPut(t *testing.T, uid, password string, expected int64) int64 {
	t.Helper()
	put, err := r.put(t, uid, password, expected)
	if err != nil || !put.Succeeded {
		t.Fatal(put, err)
	}
	return put.Revision
}

func TestKeysAreDurableBeforeAndErasedAfter(t *testing.T) {
	r := newSealedRig(t)
	first := r.mustPut(t, "u-1", "aHVudGVyMg==", 0)
	if got := r.did(); got != "key durable, secret.created" {
		t.Errorf("a creation: %s", got)
	}
	second := r.mustPut(t, "u-1", "aHVudGVyMw==", first)
	if got := r.did(); got != "secret.data-changed" {
		t.Errorf("a change: %s", got)
	}
	if same := r.mustPut(t, "u-1", "aHVudGVyMw==", second); same != second || r.did() != "" {
		t.Errorf("nothing has changed, and the revision is %d after %d", same, second)
	}
	if put, err := r.put(t, "u-2", "x", 0); err != nil || put.Succeeded || string(put.KV.Value) != string(secretOf("u-1", "aHVudGVyMw==")) || r.did() != "" {
		t.Errorf("created twice: %v, %v", put, err)
	}
	if del, err := r.Kubernetes.OptimisticDelete(t.Context(), dbKey, second, kubernetes.DeleteOptions{}); err != nil || !del.Succeeded {
		t.Fatal(del, err)
	}
	if got := r.did(); got != "secret.deleted, key erased" {
		t.Errorf("a deletion: %s", got)
	}
	for _, e := range r.history.After(t, 0) {
		if strings.Contains(string(e.Data), "aHVudGVy") {
			t.Errorf("readable: %s", e.Data)
		}
	}
}

// TestNoKeyNoEvent fails the vault.
func TestNoKeyNoEvent(t *testing.T) {
	r := newSealedRig(t)
	r.failing("key durable", errors.New("the vault's disk is full"))
	last := r.history.Sequence()
	if _, err := r.put(t, "u-1", "x", 0); err == nil || !strings.Contains(err.Error(), "secrets/shop/db") || r.history.Sequence() != last {
		t.Errorf("without a key: %v", err)
	}
}

// TestCrashBetweenKeyAndEvent leaves a key of what was never appended.
func TestCrashBetweenKeyAndEvent(t *testing.T) {
	r := newSealedRig(t)
	r.failing("secret.created", fmt.Errorf("the test says so: %w", events.ErrUncertain))
	if _, err := r.put(t, "u-1", "x", 0); err == nil {
		t.Fatal("it was written")
	}
	r.recover(t)
	if got := r.kept(t); len(got) != 1 {
		t.Errorf("the write may be on its way, and the vault has %v", got)
	}
	r.mu.Lock()
	r.now = r.now.Add(2 * time.Minute)
	r.mu.Unlock()
	r.recover(t)
	if got := r.kept(t); len(got) != 0 {
		t.Errorf("nothing was written, and the vault has %v", got)
	}
}

// TestLostAnswerKeepsTheKey writes without learning of it.
func TestLostAnswerKeepsTheKey(t *testing.T) {
	r := newSealedRig(t)
	r.history.Lose()
	r.mustPut(t, "u-1", "aHVudGVyMg==", 0)
	r.mu.Lock()
	r.now = r.now.Add(time.Hour)
	r.mu.Unlock()
	r.recover(t)
	if got, err := r.Kubernetes.Get(t.Context(), dbKey, kubernetes.GetOptions{}); err != nil || string(got.KV.Value) != string(secretOf("u-1", "aHVudGVyMg==")) {
		t.Errorf("%v, %v", got.KV, err)
	}
}

// TestCrashBetweenDeletionAndErasure leaves a key of what is gone.
func TestCrashBetweenDeletionAndErasure(t *testing.T) {
	r := newSealedRig(t)
	at := r.mustPut(t, "u-1", "aHVudGVyMg==", 0)
	created := r.history.After(t, uint64(at)-1)[0]
	r.failing("key erased", errors.New("the test stops it here"))
	if del, err := r.Kubernetes.OptimisticDelete(t.Context(), dbKey, at, kubernetes.DeleteOptions{}); err != nil || !del.Succeeded {
		t.Fatal(del, err)
	}
	if got := r.kept(t); len(got) != 1 {
		t.Fatalf("the vault has %v", got)
	}
	r.failing("key erased", nil)
	r.mu.Lock()
	r.now = r.now.Add(2 * time.Minute)
	r.mu.Unlock()
	r.recover(t)
	if got := r.kept(t); len(got) != 0 {
		t.Errorf("after the recovery the vault has %v", got)
	}
	k := r.keeper(t)
	if _, err := k.Open(t.Context(), created.Object, created.UID, created.Data); !errors.Is(err, seal.ErrErased) {
		t.Errorf("what it said can be read: %v", err)
	}
	if shown, err := k.Reveal(t.Context(), created.Object, created.UID, created.Data); err != nil || !strings.Contains(string(shown), `"password":""`) || !strings.Contains(string(shown), seal.Erased) {
		t.Errorf("%s, %v", shown, err)
	}
}

// recovered stops Run when the sweep is over and it begins to follow.
type recovered struct {
	*storagetest.Log
	stop context.CancelFunc
}

func (r recovered) Changes(ctx context.Context, after uint64) (live.Changes, error) {
	r.stop()
	return r.Log.Changes(ctx, after)
}

// TestLostVault starts without the keys of what is there.
func TestLostVault(t *testing.T) {
	r := newSealedRig(t)
	at := r.mustPut(t, "u-1", "aHVudGVyMg==", 0)
	if err := r.vault.Erase(t.Context(), r.kept(t)[0]); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	k, err := seal.New(t.Context(), seal.Options{Vault: r.vault, Config: r.config, Log: slog.New(slog.NewTextHandler(&said, nil)), Now: r.clock})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := k.Run(ctx, recovered{r.history, cancel}, func(context.Context) (uint64, error) { return r.history.Sequence(), nil }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if !strings.Contains(said.String(), "objects=1 first=secrets/shop/db") {
		t.Errorf("it said %s", &said)
	}
	ref := events.Ref{Resource: "secrets", Namespace: "shop", Name: "db"}
	if e := k.Reading(r.history).View().Get(ref); e == nil || !strings.Contains(string(e.Raw), `"password":""`) || !strings.Contains(string(e.Raw), seal.Erased) {
		t.Errorf("controllers see %v", e)
	}
	if e := k.Feeding(r.history).View().Get(ref); e != nil {
		t.Errorf("nodes see %s", e.Raw)
	}
	// Nor are they told of a change to it, or when it goes, what it says in the log.
	r.mustPut(t, "u-1", "aHVudGVyMw==", at)
	after := r.history.Sequence()
	for _, kept := range r.kept(t) {
		if err := r.vault.Erase(t.Context(), kept); err != nil {
			t.Fatal(err)
		}
	}
	k = r.keeper(t)
	changes, err := k.Feeding(r.history).Changes(t.Context(), after-1)
	if err != nil {
		t.Fatal(err)
	}
	if batch, err := changes.Next(t.Context()); err != nil || len(batch) != 1 || batch[0].Before != nil || batch[0].After != nil {
		t.Errorf("nodes are told %v, %v", batch, err)
	}
	at = int64(after)
	b, err := storage.New(t.Context(), storage.Options{
		History: r.history.Source(), Volatile: storagetest.NewLog(t, true).Source(), Sealer: k,
		Keys: storage.NewKeys("/registry", nil), Actor: events.Actor{Kind: "api", Version: "v1"}, Patience: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	// Who changes something else of it leaves its value where it is, for whoever
	// finds the key.
	lies := events.Lookup(r.history.View().Get(ref).Raw, "data", "password")
	shown, err := b.Client().Kubernetes.Get(t.Context(), dbKey, kubernetes.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	labelled, err := events.Apply(shown.KV.Value, []byte(`[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]`))
	if err != nil {
		t.Fatal(err)
	}
	put, err := b.Client().Kubernetes.OptimisticPut(t.Context(), dbKey, labelled, at, kubernetes.PutOptions{})
	if err != nil || !put.Succeeded {
		t.Fatal(put, err)
	}
	if e := r.history.View().Get(ref); !bytes.Equal(events.Lookup(e.Raw, "data", "password"), lies) || !strings.Contains(string(e.Raw), `"labels":{"a":"b"}`) || strings.Contains(string(e.Raw), seal.Erased) {
		t.Errorf("after a label was put on it, the log has %s", e.Raw)
	}
	// It can be written anew, by a new key.
	put, err = b.Client().Kubernetes.OptimisticPut(t.Context(), dbKey, secretOf("u-1", "bmV3"), put.Revision, kubernetes.PutOptions{})
	if err != nil || !put.Succeeded {
		t.Fatal(put, err)
	}
	if e := k.Feeding(r.history).View().Get(ref); e == nil || string(e.Raw) != string(secretOf("u-1", "bmV3")) {
		t.Errorf("nodes see %v", e)
	}
}

// TestKeyOfWhatIsEmptyAtItsEnd deletes what has no values any more, and had some, and
// not through this server.
func TestKeyOfWhatIsEmptyAtItsEnd(t *testing.T) {
	r := newSealedRig(t)
	at := r.mustPut(t, "u-1", "aHVudGVyMg==", 0)
	empty := []byte(`{"apiVersion":"v1","data":{},"kind":"Secret","metadata":{"name":"db","namespace":"shop","uid":"u-1"}}`)
	put, err := r.Kubernetes.OptimisticPut(t.Context(), dbKey, empty, at, kubernetes.PutOptions{})
	if err != nil || !put.Succeeded {
		t.Fatal(put, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ref := events.Ref{Resource: "secrets", Namespace: "shop", Name: "db"}
	remove := func() {
		change, _, err := events.Command(ref, "u-1", r.history.View().Get(ref).Raw, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.history.Propose(ctx, events.Proposal{
			Decision: events.Decision{Changes: []events.Change{change}, Expect: []events.Expectation{{Object: ref, Sequence: uint64(put.Revision)}}},
			Actor:    events.Actor{Kind: "api", Version: "v1"}, User: "somebody",
		}); err != nil {
			t.Fatal(err)
		}
	}
	err = r.keeper(t).Run(ctx, following{r.history, remove, cancel}, func(context.Context) (uint64, error) { return r.history.Sequence(), nil })
	if got := r.kept(t); !errors.Is(err, context.Canceled) || len(got) != 0 {
		t.Errorf("%v; the vault has %v", err, got)
	}
}

// following has something done when Run begins to follow, and stops Run when it has
// done its part about the first changes.
type following struct {
	*storagetest.Log
	do   func()
	stop context.CancelFunc
}

func (f following) Changes(ctx context.Context, after uint64) (live.Changes, error) {
	f.do()
	c, err := f.Log.Changes(ctx, after)
	return &once{Changes: c, stop: f.stop}, err
}

type once struct {
	live.Changes
	stop  context.CancelFunc
	given bool
}

func (o *once) Next(ctx context.Context) ([]projections.Change, error) {
	if o.given {
		o.stop()
	}
	o.given = true
	return o.Changes.Next(ctx)
}

// TestVaultThatFalters has the vault not answer while keys are looked after: that goes
// on when it does.
func TestVaultThatFalters(t *testing.T) {
	r := newSealedRig(t)
	r.mustPut(t, "u-1", "aHVudGVyMg==", 0)
	v := &faltering{Vault: r.vault}
	k, err := seal.New(t.Context(), seal.Options{Vault: v, Config: r.config, Log: slog.New(slog.DiscardHandler), Grace: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	v.next.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = k.Run(ctx, recovered{r.history, cancel}, func(context.Context) (uint64, error) { return r.history.Sequence(), nil })
	if !errors.Is(err, context.Canceled) || v.next.Load() {
		t.Errorf("%v", err)
	}
}

// faltering is a vault that does not list what it has the next time.
type faltering struct {
	events.Vault
	next atomic.Bool
}

func (f *faltering) All(ctx context.Context) iter.Seq2[events.Kept, error] {
	if f.next.Swap(false) {
		return func(yield func(events.Kept, error) bool) { yield(events.Kept{}, errors.New("no answer")) }
	}
	return f.Vault.All(ctx)
}
