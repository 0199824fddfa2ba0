package notary

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/proof"
	"github.com/reprise-run/reprise/projections/live"
)

// SignerOptions are what a Signer needs; all must be set but Also and Now.
type SignerOptions struct {
	// Dir is where the key, the checkpoints and the tree are kept: not where the
	// log is.
	Dir string
	// Also are more directories for the checkpoints, such as a disk that another
	// machine keeps. One that fails is reported, and does not keep others waiting.
	Also []string
	// Folded and Chains are the durable projection's.
	Folded func() uint64
	Chains proof.Chains
	// Projection tells what was recorded last.
	Projection live.Projection
	Proposer   events.Proposer
	Log        *slog.Logger
	// Version of the program, for the actor.
	Version string
	// Now is the clock; time.Now if nil.
	Now func() time.Time
}

// Signer signs checkpoints. It is the runner.Gate of the Notary.
type Signer struct {
	opts   SignerOptions
	key    note.Signer
	public string // the verifier key
	object events.Ref

	mu    sync.Mutex
	files *files
	tree  proof.Tree
	ready bool // the tree goes on from the last checkpoint
}

var _ runner.Gate = (*Signer)(nil)

// NewSigner opens the directory of checkpoints; the first time it makes the key.
func NewSigner(o SignerOptions) (*Signer, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	secret, all, err := openKey(o.Dir)
	if err != nil {
		return nil, err
	}
	public := all[len(all)-1]
	s := &Signer{opts: o, public: public}
	if s.key, err = note.NewSigner(secret); err != nil {
		return nil, fmt.Errorf("the key in %s cannot be read: %w", keyFile(o.Dir), err)
	}
	v, err := note.NewVerifier(public)
	if err != nil {
		return nil, fmt.Errorf("the key in %s cannot be read: %w", VerifierFile(o.Dir), err)
	}
	if v.KeyHash() != s.key.KeyHash() || v.Name() != s.key.Name() {
		return nil, fmt.Errorf("the key in %s is %s, and the one in %s is %s: they do not belong together; restore both from a copy, or remove the former to begin with a new key",
			keyFile(o.Dir), proof.KeyID(s.key), VerifierFile(o.Dir), proof.KeyID(v))
	}
	s.object = proof.RefOf(v)
	if s.files, err = openFiles(o.Dir, o.Also, o.Log, v, all); err != nil {
		return nil, err
	}
	return s, nil
}

// Object is under what the log records the checkpoints.
func (s *Signer) Object() events.Ref { return s.object }

// Verifier is the public key, as an auditor keeps it.
func (s *Signer) Verifier() string { return s.public }

// Do is runner.Gate's, for the Notary's one command.
func (s *Signer) Do(ctx context.Context, _ events.Actor, c runner.Command) (uint64, error) {
	_, sequence, err := s.sign(ctx, c.Because)
	return sequence, err
}

// Checkpoint returns a checkpoint of the log as it is now: the last one if nothing
// has happened since, and else a new one.
func (s *Signer) Checkpoint(ctx context.Context) ([]byte, error) {
	if e := s.opts.Projection.View().Get(s.object); e != nil {
		if due, _ := New(s.object, Options{Events: 1}).due(e, s.opts.Folded(), time.Time{}); !due {
			return []byte(recordOf(e).Checkpoint), nil
		}
	}
	signed, sequence, err := s.sign(ctx, 0)
	if err != nil {
		return nil, err
	}
	return signed, s.opts.Projection.Wait(ctx, sequence)
}

// sign signs a checkpoint of all that is folded, and records it.
func (s *Signer) sign(ctx context.Context, because uint64) (signed []byte, sequence uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.resume(); err != nil {
		return nil, 0, err
	}
	view := s.opts.Projection.View()
	if err := s.grow(max(s.opts.Folded(), s.tree.Size())); err != nil {
		return nil, 0, err
	}
	now := s.opts.Now().UTC().Truncate(time.Millisecond)
	c := s.tree.Checkpoint(s.key.Name(), now)
	if signed, err = proof.Sign(c, s.key); err != nil {
		return nil, 0, err
	}
	if err := s.files.add(signed, &s.tree); err != nil {
		return nil, 0, err
	}
	e := view.Get(s.object)
	p := events.Proposal{Actor: actor, Basis: view.Sequence(), Now: now}
	p.Actor.Version, p.Because = s.opts.Version, because
	if p.Changes, err = proof.Changes(s.public, e != nil, signed, c); err != nil {
		return nil, 0, err
	}
	if p.Expect = []events.Expectation{{Object: s.object}}; e != nil {
		p.Expect[0].Sequence = e.Sequence
	}
	receipt, err := s.opts.Proposer.Propose(ctx, p)
	var conflict *events.ConflictError
	if errors.As(err, &conflict) {
		// It was recorded by a try whose answer was lost: what is there is as good.
		return signed, conflict.Actual, nil
	}
	return signed, receipt.Last, err
}

// grow brings the tree to a size.
func (s *Signer) grow(size uint64) error {
	if size == s.tree.Size() {
		return nil
	}
	t := s.tree.Clone()
	for chain, err := range s.opts.Chains(t.Size()+1, size) {
		if err != nil {
			return fmt.Errorf("cannot read the chain after event %d: %w", t.Size(), err)
		}
		t.Add(chain)
	}
	s.tree = t
	return nil
}

// resume makes sure, once, that the log is the one of which the last checkpoint
// was signed. Nothing is signed of another.
func (s *Signer) resume() error {
	if s.ready {
		return nil
	}
	last, tree, err := s.files.last()
	if err != nil {
		return err
	}
	if s.tree = tree; last == nil {
		s.ready = true
		return nil
	}
	if folded := s.opts.Folded(); folded < last.Size {
		return fmt.Errorf("no checkpoint is signed: the log goes to %d, and one was signed over %d events; the log has lost some: look with `reprise verify`", folded, last.Size)
	}
	if err := s.grow(last.Size); err != nil {
		return err
	}
	if s.tree.Head() != last.Head {
		return fmt.Errorf("no checkpoint is signed: the first %d events are not those of which one was signed at %s; the log was altered: look with `reprise verify`",
			last.Size, last.Time.Format(time.RFC3339))
	}
	s.ready = true
	return nil
}
