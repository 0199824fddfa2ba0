package proof_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/proof"
)

// notarized is a log that records checkpoints of itself, and the checkpoints.
type notarized struct {
	events []events.Event
	held   []proof.Held
}

// notarize makes a log of about n events, with a checkpoint now and then that is
// recorded a little after it was signed.
func notarize(t testing.TB, r *rand.Rand, n int, signer note.Signer, verifier note.Verifier) (l notarized) {
	t.Helper()
	var tree proof.Tree
	add := func(e events.Event) {
		e.Sequence = tree.Size() + 1
		e.Chain = events.Link(tree.Chain(), &e)
		tree.Add(e.Chain)
		l.events = append(l.events, e)
	}
	for _, e := range someEvents(r.Uint64(), n) {
		add(e)
		if r.IntN(20) > 0 {
			continue
		}
		c := tree.Checkpoint(signer.Name(), time.UnixMilli(int64(tree.Size())))
		signed, err := proof.Sign(c, signer)
		if err != nil {
			t.Fatal(err)
		}
		l.held = append(l.held, proof.Held{Checkpoint: c, From: fmt.Sprintf("of %d", c.Size)})
		if r.IntN(5) == 0 {
			continue // nobody could record it
		}
		for range r.IntN(3) {
			add(someEvents(r.Uint64(), 1)[0])
		}
		changes, err := proof.Changes(vkey(t, verifier), len(l.held) > 1, signed, c)
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range changes {
			add(events.Event{Type: change.Type, Object: change.Object, UID: change.UID, Optional: true, Data: change.Data, Actor: events.Actor{Kind: "notary"}})
		}
	}
	return l
}

// vkey is the key of a test's verifier: its seed is in the name.
func vkey(t testing.TB, v note.Verifier) string {
	t.Helper()
	for seed := range byte(10) {
		_, text, err := proof.GenerateKey(strings.NewReader(strings.Repeat(string(rune(seed)), 100)))
		if err != nil {
			t.Fatal(err)
		}
		if o, err := note.NewVerifier(text); err == nil && o.KeyHash() == v.KeyHash() {
			return text
		}
	}
	t.Fatal("not a key of these tests")
	return ""
}

// audit gives a log to an audit in runs of random length.
func audit(r *rand.Rand, all []events.Event, held []proof.Held, keys ...note.Verifier) (*proof.Audit, *proof.Finding) {
	a := proof.NewAudit(held, keys...)
	for len(all) > 0 {
		n := 1 + r.IntN(min(len(all), 40))
		a.Take(all[:n])
		all = all[n:]
	}
	return a, a.End()
}

// forge writes a log anew from a sequence on, so that its events fit each other.
func forge(all []events.Event, from uint64) {
	var chain [32]byte
	if from > 1 {
		chain = all[from-2].Chain
	}
	for i := int(from) - 1; i < len(all); i++ {
		all[i].Sequence = uint64(i) + 1
		chain = events.Link(chain, &all[i])
		all[i].Chain = chain
	}
}

func TestIntactLogsAreNeverAccused(t *testing.T) {
	signer, verifier := key(t, 1)
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 3))
		l := notarize(t, r, 1+r.IntN(400), signer, verifier)
		held := slices.Clone(l.held)
		r.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
		a, found := audit(r, l.events, append(held, l.held...), verifier)
		if found != nil {
			t.Fatalf("seed %d: %v", seed, found)
		}
		if n, _ := a.Compared(); n != 2*len(l.held) || a.Taken() != uint64(len(l.events)) {
			t.Errorf("seed %d: %d of %d checkpoints were compared", seed, n, 2*len(l.held))
		}
		tree := a.Tree()
		if want, err := proof.NewProver(chainsOf(l.events)).Tree(uint64(len(l.events))); err != nil || want.Head() != tree.Head() {
			t.Errorf("seed %d: the tree is another", seed)
		}
	}
}

// Each way to change a log is found, and where it is known the first bad sequence
// is named.
func TestTampering(t *testing.T) {
	signer, verifier := key(t, 1)
	thief, stolen := key(t, 2)
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 4))
		l := notarize(t, r, 50+r.IntN(300), signer, verifier)
		if len(l.held) == 0 {
			continue
		}
		reach := l.held[len(l.held)-1].Size
		at := 1 + r.Uint64N(reach-1) // the first bad sequence
		all := slices.Clone(l.events)
		// What the auditor holds: everything, or the newest checkpoint alone.
		held, keys := l.held, []note.Verifier{verifier}
		if r.IntN(2) == 0 {
			held = held[len(held)-1:]
		}
		var what string
		exact := true
		switch r.IntN(8) {
		case 0:
			what = "altered"
			all[at-1].Data = []byte(`[1]`)
		case 1:
			what = "its chain altered"
			all[at-1].Chain[r.IntN(32)] ^= 1
		case 2:
			what = "removed"
			all = slices.Delete(all, int(at-1), int(at))
		case 3:
			what = "removed and renumbered"
			all = slices.Delete(all, int(at-1), int(at))
			for i := range all {
				all[i].Sequence = uint64(i) + 1
			}
		case 4:
			what = "reordered"
			all[at-1], all[at] = all[at], all[at-1]
		case 5:
			what = "cut short"
			all = all[:at-1]
		case 6:
			what, exact = "written anew", false
			all[at-1].UID = "another"
			forge(all, at)
		case 7:
			what, exact = "written anew, and signed by another key", false
			var tree proof.Tree
			all[at-1].UID = "another"
			forge(all, at)
			for i := range all {
				if c := tree.Checkpoint(thief.Name(), time.Time{}); all[i].Type == proof.Signed {
					signed, err := proof.Sign(c, thief)
					if err != nil {
						t.Fatal(err)
					}
					changes, err := proof.Changes(vkey(t, stolen), true, signed, c)
					if err != nil {
						t.Fatal(err)
					}
					all[i].Data = changes[0].Data
					forge(all, uint64(i)+1)
				}
				tree.Add(all[i].Chain)
			}
			held = nil // the signatures in the log alone betray it
		}
		a, found := audit(r, all, held, keys...)
		switch {
		case found == nil && met(a, thief, at):
		case found == nil && held == nil && !slices.ContainsFunc(all, func(e events.Event) bool { return e.Type == proof.Signed }):
		case found == nil:
			t.Errorf("seed %d: event %d of %d is %s, and nobody notices", seed, at, len(l.events), what)
		case exact && (found.First != at || found.Last != at):
			t.Errorf("seed %d: event %d is %s, and what is found is: %v", seed, at, what, found)
		case held != nil && (at < found.First || at > found.Last):
			t.Errorf("seed %d: event %d is %s, and what is found is: %v", seed, at, what, found)
		}
	}
}

// met says whether a log was only sure up to an event when it was signed by a thief.
func met(a *proof.Audit, thief note.Signer, at uint64) bool {
	return len(a.Strangers()) > 0 && a.Strangers()[0].Key == proof.KeyID(thief) && a.Strangers()[0].Sure < at
}

// With checkpoints between, the first bad sequence is known better than from the
// auditor's alone.
func TestCheckpointsBoundTheFirstBadSequence(t *testing.T) {
	signer, verifier := key(t, 1)
	r := rand.New(rand.NewPCG(1, 1))
	l := notarize(t, r, 400, signer, verifier)
	all := slices.Clone(l.events)
	all[199].UID = "another"
	forge(all, 200)
	_, found := audit(r, all, l.held[len(l.held)-1:], verifier)
	if found == nil || found.First > 200 || found.Last < 200 || found.Last-found.First > 100 {
		t.Fatalf("found: %v", found)
	}
	for _, part := range []string{"one of", "written anew", "the checkpoint that event"} {
		if !strings.Contains(found.Error(), part) {
			t.Errorf("it does not say %q: %v", part, found)
		}
	}
}

func BenchmarkAudit(b *testing.B) {
	all := someEvents(1, 100_000)
	for i := range all {
		all[i].Data = []byte(strings.Repeat("x", 700))
	}
	forge(all, 1)
	for b.Loop() {
		a := proof.NewAudit(nil)
		for run := range slices.Chunk(all, 1000) {
			a.Take(run)
		}
		if a.End() != nil {
			b.Fatal(a.Found())
		}
		a.Tree()
	}
	b.ReportMetric(float64(len(all)*b.N)/b.Elapsed().Seconds(), "events/s")
}

// recordedLate makes n events of which the one after the first at records a checkpoint
// of the first size.
func recordedLate(t *testing.T, n, size, at int) (all []events.Event, c proof.Checkpoint, verifier note.Verifier) {
	t.Helper()
	signer, verifier := key(t, 1)
	all = someEvents(9, n)
	var tree proof.Tree
	for _, e := range all[:size] {
		tree.Add(e.Chain)
	}
	c = tree.Checkpoint(signer.Name(), time.Time{})
	signed, err := proof.Sign(c, signer)
	if err != nil {
		t.Fatal(err)
	}
	changes, err := proof.Changes(vkey(t, verifier), true, signed, c)
	if err != nil {
		t.Fatal(err)
	}
	all[at].Type, all[at].Object, all[at].Data = changes[0].Type, changes[0].Object, changes[0].Data
	forge(all, uint64(at)+1)
	return all, c, verifier
}

// A log in which nothing was signed for long, and then again, is compared all the
// same, and the audit remembers no more of it than it must.
func TestLongLogs(t *testing.T) {
	all, c, verifier := recordedLate(t, 200_000, 190_000, 195_000)
	r := rand.New(rand.NewPCG(1, 1))
	a, found := audit(r, all, []proof.Held{{Checkpoint: c, From: "of the auditor"}}, verifier)
	if found != nil {
		t.Error(found)
	}
	if held, recorded := a.Compared(); held != 1 || recorded != 1 {
		t.Errorf("%d held and %d recorded were compared", held, recorded)
	}
	all[100].UID = "another"
	forge(all, 101)
	if _, found := audit(r, all, nil, verifier); found == nil || found.First != 1 || found.Last != 190_000 {
		t.Errorf("written anew: %v", found)
	}
}

// A server that was suspended after it had signed, while others appended, records
// the checkpoint when it wakes. That is no reason to accuse the log.
func TestCheckpointsRecordedVeryLate(t *testing.T) {
	all, c, verifier := recordedLate(t, 90_000, 100, 89_000)
	r := rand.New(rand.NewPCG(1, 1))
	held := []proof.Held{{Checkpoint: c, From: "of the auditor"}}
	a, found := audit(r, all, held, verifier)
	if found != nil {
		t.Error(found)
	}
	if held, recorded := a.Compared(); held != 1 || recorded != 0 {
		t.Errorf("%d held and %d recorded were compared", held, recorded)
	}
	all[50].UID = "another"
	forge(all, 51)
	if _, found := audit(r, all, held, verifier); found == nil || found.First != 1 || found.Last != 100 {
		t.Errorf("written anew: %v", found)
	}
}
