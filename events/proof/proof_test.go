package proof_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/proof"
)

// someEvents are events that follow each other.
func someEvents(seed uint64, n int) []events.Event {
	r := rand.New(rand.NewPCG(seed, 1))
	all := make([]events.Event, n)
	var chain [32]byte
	for i := range all {
		all[i] = events.Event{
			Sequence: uint64(i) + 1, Type: "pod.ready", UID: fmt.Sprint(r.Uint32()),
			Object: events.Ref{Resource: "pods", Namespace: "shop", Name: fmt.Sprintf("web-%d", r.IntN(50))},
			Actor:  events.Actor{Kind: "node", Name: "n1"}, Time: time.UnixMilli(int64(i)).UTC(), Data: []byte(`[]`),
		}
		chain = events.Link(chain, &all[i])
		all[i].Chain = chain
	}
	return all
}

func chainsOf(all []events.Event) proof.Chains { return proof.ChainsOf(reading(all)) }

func reading(all []events.Event) func(first, last uint64) iter.Seq2[events.Event, error] {
	return func(first, last uint64) iter.Seq2[events.Event, error] {
		return func(yield func(events.Event, error) bool) {
			for _, e := range all[first-1 : min(last, uint64(len(all)))] {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

func key(t testing.TB, seed byte) (note.Signer, note.Verifier) {
	t.Helper()
	skey, vkey, err := proof.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{seed}, 100)))
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

// The tree that grows by its edge is the one that RFC 6962 defines.
func TestTreeIsThatOfTheRFC(t *testing.T) {
	all := someEvents(1, 600)
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range at {
			out = append(out, stored[i])
		}
		return out, nil
	})
	var tree proof.Tree
	for i, e := range all {
		add, err := tlog.StoredHashes(int64(i), e.Chain[:], reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, add...)
		if err := tree.Take(all[i : i+1]); err != nil {
			t.Fatal(err)
		}
		want, err := tlog.TreeHash(int64(i+1), reader)
		if err != nil || tree.Root() != want || tree.Chain() != e.Chain || tree.Size() != e.Sequence {
			t.Fatalf("after %d events the root is %s, not %s (%v)", i+1, tree.Root(), want, err)
		}
		text, err := tree.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var read proof.Tree
		if err := read.UnmarshalText(text); err != nil || read.Head() != tree.Head() || read.Chain() != tree.Chain() {
			t.Fatalf("%s is read as %v (%v)", text, read, err)
		}
	}
}

// Whatever sizes are asked about in whatever order, the proofs hold, and hold for
// nothing else.
func TestProofs(t *testing.T) {
	for _, n := range []int{1, 2, 255, 256, 257, 1500} {
		all := someEvents(uint64(n), n)
		heads := make([]proof.Head, n+1)
		var tree proof.Tree
		heads[0] = tree.Head()
		for i := range all {
			tree.Add(all[i].Chain)
			heads[i+1] = tree.Head()
		}
		prover := proof.NewProver(chainsOf(all))
		r := rand.New(rand.NewPCG(uint64(n), 2))
		for range 200 {
			newer := 1 + r.IntN(n)
			older := r.IntN(newer + 1)
			at, err := prover.Tree(uint64(newer))
			if err != nil || at.Head() != heads[newer] || at.Chain() != all[newer-1].Chain {
				t.Fatalf("the tree of %d is another (%v)", newer, err)
			}
			grown, err := prover.Consistency(uint64(older), uint64(newer))
			if err != nil {
				t.Fatal(err)
			}
			if err := proof.CheckConsistency(grown, heads[older], heads[newer]); err != nil {
				t.Errorf("%d of %d: %v", older, newer, err)
			}
			for _, wrong := range []proof.Head{{Size: uint64(older), Root: heads[newer].Root}, {Size: uint64(older) + 1, Root: heads[older].Root}} {
				if wrong != heads[newer] && proof.CheckConsistency(grown, wrong, heads[newer]) == nil {
					t.Errorf("%d of %d: a proof for %v holds too", older, newer, wrong)
				}
			}
			sequence := 1 + r.IntN(newer)
			in, err := prover.Inclusion(uint64(sequence), uint64(newer))
			if err != nil {
				t.Fatal(err)
			}
			chain := all[sequence-1].Chain
			if err := proof.CheckInclusion(in, uint64(sequence), chain, heads[newer]); err != nil {
				t.Error(err)
			}
			chain[r.IntN(32)] ^= 1 << r.IntN(8)
			if proof.CheckInclusion(in, uint64(sequence), chain, heads[newer]) == nil {
				t.Errorf("an event that was altered is in the tree of %d", newer)
			}
			text, _ := in.MarshalText()
			var again proof.Path
			if err := again.UnmarshalText(text); err != nil || !slices.Equal(again, in) {
				t.Errorf("%q is read as %v (%v)", text, again, err)
			}
		}
	}
	if _, err := proof.NewProver(chainsOf(someEvents(1, 5))).Tree(6); err == nil {
		t.Error("there is a tree of more events than there are")
	}
}

// What is taken out of the middle of a log is verified by itself.
func TestVerifyRange(t *testing.T) {
	all := someEvents(3, 1000)
	prover := proof.NewProver(chainsOf(all))
	whole, err := prover.Tree(1000)
	if err != nil {
		t.Fatal(err)
	}
	in := whole.Checkpoint("x", time.Time{})
	for _, c := range [][2]uint64{{1, 1000}, {1, 1}, {300, 700}, {1000, 1000}, {256, 257}} {
		start, err := prover.Tree(c[0] - 1)
		if err != nil {
			t.Fatal(err)
		}
		grown, err := prover.Consistency(c[1], 1000)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := proof.VerifyRange(start, c[1], reading(all)(c[0], c[1]), grown, in); err != nil {
			t.Errorf("%v: %v", c, err)
		}
		altered := slices.Clone(all)
		at := (c[0] + c[1]) / 2
		altered[at-1].UID = "another"
		var bad *events.ChainError
		if _, err := proof.VerifyRange(start, c[1], reading(altered)(c[0], c[1]), grown, in); !errors.As(err, &bad) || bad.Sequence != at {
			t.Errorf("%v altered at %d: %v", c, at, err)
		}
		// Rewritten so that the events fit each other.
		var chain [32]byte
		for i := range altered {
			chain = events.Link(chain, &altered[i])
			altered[i].Chain = chain
		}
		if start.Size() == 0 {
			if _, err := proof.VerifyRange(start, c[1], reading(altered)(c[0], c[1]), grown, in); err == nil {
				t.Errorf("%v is rewritten, and nobody notices", c)
			}
		}
		if _, err := proof.VerifyRange(start, c[1]+1, reading(all)(c[0], c[1]), grown, in); err == nil {
			t.Errorf("%v is cut short, and nobody notices", c)
		}
	}
}

func TestCheckpoints(t *testing.T) {
	signer, verifier := key(t, 1)
	_, other := key(t, 2)
	var tree proof.Tree
	if err := tree.Take(someEvents(1, 7)); err != nil {
		t.Fatal(err)
	}
	c := tree.Checkpoint(signer.Name(), time.Date(2026, 11, 26, 10, 42, 0, 123456789, time.UTC))
	signed, err := proof.Sign(c, signer)
	if err != nil {
		t.Fatal(err)
	}
	// For ever: auditors hold these.
	const want = `reprise.run/log/010101010101
7
JDY/G4ZySocNlklkljtCEnxWR/iPfQNykb0iHo6FN70=
chain f0eb54fb812a8faf3c7b0727196bff26de98e79a2565d2396f4ff795a248569f
time 2026-11-26T10:42:00.123Z

— reprise.run/log/010101010101 J/CBl0X2zI3yz8YsjV+gwWR1p4fxqxAp1sZuenTdy9IMaTPFcXq34m5fSTBQUn2gvIoO8Jln4h948keoXjL/0gLlhwU=
`
	if string(signed) != want {
		t.Errorf("the checkpoint is written as\n%s", signed)
	}
	if got, err := proof.Open(signed, other, verifier); err != nil || got != c {
		t.Errorf("it is read as %+v (%v)", got, err)
	}
	var by *proof.KeyError
	if _, err := proof.Open(signed, other); !errors.As(err, &by) || by.Signed[0] != proof.KeyID(verifier) || by.Known[0] != proof.KeyID(other) {
		t.Errorf("by another key: %v", err)
	}
	if _, err := proof.Sign(c, must(key(t, 2))); err == nil {
		t.Error("the key of another log signs")
	}
	for i := range signed {
		for bit := range 8 {
			flipped := bytes.Clone(signed)
			flipped[i] ^= 1 << bit
			if got, err := proof.Open(flipped, verifier); err == nil && got != c {
				t.Fatalf("bit %d of byte %d is flipped, and what is read is %+v", bit, i, got)
			}
		}
	}
}

func must(s note.Signer, _ note.Verifier) note.Signer { return s }

func TestFilesOfCheckpoints(t *testing.T) {
	signer, _ := key(t, 1)
	var file []byte
	var want [][]byte
	var tree proof.Tree
	for _, e := range someEvents(1, 5) {
		tree.Add(e.Chain)
		signed, err := proof.Sign(tree.Checkpoint(signer.Name(), time.Time{}), signer)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, signed)
		file = proof.AppendNote(file, signed)
	}
	for end := range len(file) + 1 {
		notes, rest := proof.Split(file[:end])
		whole := 0
		for i, n := range notes {
			if !bytes.Equal(n, want[i]) {
				t.Fatalf("note %d is read as %q", i, n)
			}
			whole += len(n) + 1
		}
		if whole+len(rest) != end {
			t.Fatalf("of %d bytes %d are notes and %d left", end, whole, len(rest))
		}
	}
}

func FuzzParseCheckpoint(f *testing.F) {
	var tree proof.Tree
	tree.Add([32]byte{1})
	f.Add(tree.Checkpoint("a", time.Now()).Text())
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := proof.ParseCheckpoint(text); err == nil && c.Text() != text {
			t.Errorf("%q is read as %q", text, c.Text())
		}
	})
}

func BenchmarkTree(b *testing.B) {
	var tree proof.Tree
	var chain [32]byte
	for b.Loop() {
		binary.LittleEndian.PutUint64(chain[:], tree.Size())
		tree.Add(chain)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
