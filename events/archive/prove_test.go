package archive_test

import (
	"bytes"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/archive"
	"github.com/reprise-run/reprise/events/proof"
)

// signed is a log with a key.
type signed struct {
	t   *testing.T
	all []events.Event
	by  note.Signer
	key note.Verifier
}

func newSigned(t *testing.T, all []events.Event, seed byte) *signed {
	t.Helper()
	secret, public, err := proof.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{seed}, 100)))
	if err != nil {
		t.Fatal(err)
	}
	s := &signed{t: t, all: all}
	if s.by, err = note.NewSigner(secret); err != nil {
		t.Fatal(err)
	}
	if s.key, err = note.NewVerifier(public); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *signed) tree(size uint64) (t proof.Tree) {
	for _, e := range s.all[:size] {
		t.Add(e.Chain)
	}
	return t
}

func (s *signed) checkpoint(size uint64) proof.Held {
	tree := s.tree(size)
	return proof.Held{Checkpoint: tree.Checkpoint(s.by.Name(), time.Unix(1_790_000_000, 0)), From: "of the test"}
}

// compare writes an archive of a range, with a checkpoint over the first size
// events, and compares what is read with the checkpoints held.
func (s *signed) compare(from, to, size uint64, held []proof.Held, keys ...note.Verifier) (archive.Verdict, error) {
	s.t.Helper()
	h, start := archive.Header{From: from, To: to}, (*proof.Tree)(nil)
	if from > 1 {
		tree := s.tree(from - 1)
		h.Before, start = s.all[from-2].Chain, &tree
	}
	text, err := proof.Sign(s.checkpoint(size).Checkpoint, s.by)
	if err != nil {
		s.t.Fatal(err)
	}
	prover := proof.NewProver(proof.ChainsOf(func(first, last uint64) iter.Seq2[events.Event, error] {
		return func(yield func(events.Event, error) bool) {
			for _, e := range s.all[first-1 : last] {
				if !yield(e, nil) {
					return
				}
			}
		}
	}))
	h.Proof = &archive.Proof{Tree: start, Checkpoint: string(text)}
	if size > to {
		if h.Proof.Grown, err = prover.Consistency(to, size); err != nil {
			s.t.Fatal(err)
		}
	}
	e, err := archive.NewEvidence(h, held, keys...)
	if err != nil {
		return archive.Verdict{}, err
	}
	for batch := range slices.Chunk(s.all[from-1:to], 37) {
		if err := e.Take(batch); err != nil {
			return archive.Verdict{}, err
		}
	}
	return e.End()
}

func TestEvidence(t *testing.T) {
	log := newSigned(t, history(1000), 1)
	for _, c := range []struct{ from, to, size uint64 }{{1, 1000, 1000}, {1, 500, 1000}, {300, 500, 1000}, {300, 1000, 1000}, {300, 500, 500}, {300, 500, 400}, {1, 500, 300}} {
		var held []proof.Held
		for _, size := range []uint64{5, 299, 300, 400, 500, 900} {
			held = append(held, log.checkpoint(size))
		}
		v, err := log.compare(c.from, c.to, c.size, held, log.key)
		if err != nil || !v.Signed || v.Own.Size != c.size || v.Held+v.Beyond != len(held) || v.Sure != min(c.to, max(c.size, 500)) {
			t.Errorf("%+v: %+v, %v", c, v, err)
		}
		if within := map[bool]int{true: 6, false: 5}[c.to == 1000]; c.from == 1 && v.Held != within || c.from == 300 && v.Held != within-1 {
			t.Errorf("%+v: %d held agree", c, v.Held)
		}
		if v, err := log.compare(c.from, c.to, c.size, nil); err != nil || v.Signed || v.Own == nil {
			t.Errorf("%+v without a key: %+v, %v", c, v, err)
		}
	}
}

// TestWrittenAnew makes a log of which one event is another, with a chain that is
// right, as somebody does who means it.
func TestWrittenAnew(t *testing.T) {
	all := history(1000)
	honest := newSigned(t, all, 1)
	anew := slices.Clone(all)
	anew[349].User = "eve"
	for i := 349; i < len(anew); i++ {
		anew[i].Chain = events.Link(anew[i-1].Chain, &anew[i])
	}
	forger := newSigned(t, anew, 2)
	var forged *archive.ForgedError
	if _, err := forger.compare(300, 500, 600, []proof.Held{honest.checkpoint(320), honest.checkpoint(400)}); !errors.As(err, &forged) || forged.First != 321 || forged.Last != 400 {
		t.Errorf("with a checkpoint held: %v", err)
	}
	if _, err := forger.compare(300, 500, 600, nil, honest.key); err == nil || !strings.Contains(err.Error(), "signed by the key") {
		t.Errorf("with the key: %v", err)
	}
	// With the honest checkpoint and its proof in it.
	text, err := proof.Sign(honest.checkpoint(500).Checkpoint, honest.by)
	if err != nil {
		t.Fatal(err)
	}
	e, err := archive.NewEvidence(archive.Header{From: 1, To: 500, Proof: &archive.Proof{Checkpoint: string(text)}}, nil)
	if err == nil {
		err = e.Take(anew[:500])
	}
	if err == nil {
		_, err = e.End()
	}
	if !errors.As(err, &forged) {
		t.Errorf("with another log's checkpoint: %v", err)
	}
}

// TestStrippedOfProof takes the proof out of a part that was written anew, and puts
// one in that speaks of nothing in it.
func TestStrippedOfProof(t *testing.T) {
	all := history(1000)
	honest := newSigned(t, all, 1)
	anew := slices.Clone(all)
	anew[349].User = "eve"
	for i := 349; i < len(anew); i++ {
		anew[i].Chain = events.Link(anew[i-1].Chain, &anew[i])
	}
	compare := func(of []events.Event, p *archive.Proof, held ...proof.Held) (archive.Verdict, error) {
		e, err := archive.NewEvidence(archive.Header{From: 300, To: 500, Before: of[298].Chain, Proof: p}, held, honest.key)
		if err == nil {
			err = e.Take(of[299:500])
		}
		if err != nil {
			return archive.Verdict{}, err
		}
		return e.End()
	}
	if v, err := compare(all, nil, honest.checkpoint(299), honest.checkpoint(400), honest.checkpoint(600)); err != nil || v.Held != 2 || v.Beyond != 1 || v.Sure != 400 {
		t.Errorf("what is not written anew: %+v, %v", v, err)
	}
	var forged *archive.ForgedError
	if _, err := compare(anew, nil, honest.checkpoint(320), honest.checkpoint(400)); !errors.As(err, &forged) || forged.First != 321 || forged.Last != 400 {
		t.Errorf("without a proof: %v", err)
	}
	if v, err := compare(anew, nil, honest.checkpoint(299)); err != nil || v.Sure >= 300 {
		t.Errorf("with a checkpoint of what was before: %+v, %v", v, err)
	}
	text, err := proof.Sign(honest.checkpoint(298).Checkpoint, honest.by)
	if err != nil {
		t.Fatal(err)
	}
	start := newSigned(t, anew, 1).tree(299)
	if v, err := compare(anew, &archive.Proof{Tree: &start, Checkpoint: string(text)}); err == nil || !strings.Contains(err.Error(), "proves nothing of it") {
		t.Errorf("with a checkpoint of other events: %+v, %v", v, err)
	}
}
