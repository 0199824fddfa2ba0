// Package proof makes the log evident to people who do not trust its keeper: a
// Merkle tree over the hash chain of events, checkpoints of it that a key signs,
// and proofs that an event is in the tree of a checkpoint and that one tree grew
// out of another.
//
// # The tree
//
// It is that of RFC 6962 as golang.org/x/mod/sumdb/tlog has it. Leaf i (from 0) is
// the Chain of event i+1, 32 bytes, so that a leaf speaks of its event and of all
// before it. A tree grows by its right edge alone (Tree), which is a few hashes
// however long the log is. What else a proof needs is computed again from the
// chains of the log (Prover).
//
// # The checkpoint
//
// A checkpoint is a signed note (golang.org/x/mod/sumdb/note, the C2SP formats
// signed-note and tlog-checkpoint), so that witnesses and tools of others read it:
//
//	reprise.run/log/5f0c3a9e12b4            the origin: this log and no other
//	812                                     how many events
//	CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=    the tree's root
//	chain 9b74…                             the Chain of event 812, in hex
//	time 2026-11-26T10:42:00Z               when it was signed, by the signer's clock
//
//	— reprise.run/log/5f0c3a9e12b4 Az3grl…  the signature, by Ed25519
//
// The two lines of ours are extensions, which other readers pass over.
//
// The package computes: it reads no file, no clock and no key.
package proof

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reprise-run/reprise/events"
)

// Hash is a node of the tree. It prints as base64.
type Hash = tlog.Hash

// Head says what a tree is: how many events it has, and its root.
type Head struct {
	Size uint64
	Root Hash
}

// Tree is the tree of a log up to one event, as far as it must be known to let it
// grow: its right edge. The zero value is the tree of an empty log. It is a value
// of its own as Clone returns it.
type Tree struct {
	size  uint64
	chain [32]byte
	// edge holds the roots of the whole subtrees that the tree consists of, the
	// largest first: as many as size has bits set.
	edge []Hash
}

// Leaf is the hash of the leaf for an event with the chain.
func Leaf(chain [32]byte) Hash {
	var b [1 + sha256.Size]byte
	copy(b[1:], chain[:])
	return sha256.Sum256(b[:])
}

// node is the hash above two: tlog.NodeHash without its allocations.
func node(left, right Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// Size is how many events the tree has, and so the sequence of its last.
func (t *Tree) Size() uint64 { return t.size }

// Chain is the Chain of its last event, zeros if it has none.
func (t *Tree) Chain() [32]byte { return t.chain }

// Root is the hash that stands for the whole tree.
func (t *Tree) Root() Hash {
	n := len(t.edge)
	if n == 0 {
		return sha256.Sum256(nil)
	}
	root := t.edge[n-1]
	for i := n - 2; i >= 0; i-- {
		root = node(t.edge[i], root)
	}
	return root
}

// Head is its size and root.
func (t *Tree) Head() Head { return Head{t.size, t.Root()} }

// Add lets the tree grow by the event that follows, of which it needs the chain.
func (t *Tree) Add(chain [32]byte) { t.addLeaf(chain, Leaf(chain)) }

func (t *Tree) addLeaf(chain [32]byte, h Hash) {
	for n := t.size; n&1 == 1; n >>= 1 {
		last := len(t.edge) - 1
		h = node(t.edge[last], h)
		t.edge = t.edge[:last]
	}
	t.edge = append(t.edge, h)
	t.size++
	t.chain = chain
}

// Take checks that the events are those that follow in the log, by their
// sequences and chains, and lets the tree grow by them. It fails with an
// *events.ChainError, and then has grown by those before the first bad one.
func (t *Tree) Take(run []events.Event) error {
	_, err := events.VerifyChain(t.size, t.chain, run)
	var bad *events.ChainError
	if errors.As(err, &bad) {
		run = run[:bad.Sequence-t.size-1]
	}
	for i := range run {
		t.Add(run[i].Chain)
	}
	return err
}

// Clone returns the tree as it is now.
func (t *Tree) Clone() Tree {
	c := *t
	c.edge = append([]Hash(nil), t.edge...)
	return c
}

// MarshalText writes the tree in a line: size, chain in hex, and the edge in
// base64. ParseTree reads it.
func (t *Tree) MarshalText() ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d %x", t.size, t.chain)
	for _, h := range t.edge {
		fmt.Fprintf(&b, " %s", h)
	}
	return b.Bytes(), nil
}

var errTree = errors.New("not a tree: it is a size, a chain in hex, and a hash in base64 for each bit of the size")

// UnmarshalText reads what MarshalText wrote. Whether that is the tree of a log
// only a signed checkpoint tells.
func (t *Tree) UnmarshalText(text []byte) error {
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return errTree
	}
	var read Tree
	var err error
	if read.size, err = strconv.ParseUint(fields[0], 10, 64); err != nil {
		return errTree
	}
	if read.chain, err = parseChain(fields[1]); err != nil || len(fields)-2 != bits.OnesCount64(read.size) {
		return errTree
	}
	for _, field := range fields[2:] {
		h, err := tlog.ParseHash(field)
		if err != nil {
			return errTree
		}
		read.edge = append(read.edge, h)
	}
	*t = read
	return nil
}

func parseChain(text string) (chain [32]byte, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(chain) {
		return chain, fmt.Errorf("%q is no link of the hash chain: it has 64 hexadecimal digits", text)
	}
	return [32]byte(b), nil
}

// Path is a proof: the hashes that are not known to those who check it, in the
// order of RFC 6962.
type Path []Hash

// MarshalText writes the hashes in base64, with blanks between.
func (p Path) MarshalText() ([]byte, error) {
	var b []byte
	for i, h := range p {
		if i > 0 {
			b = append(b, ' ')
		}
		b = base64.StdEncoding.AppendEncode(b, h[:])
	}
	return b, nil
}

// UnmarshalText reads what MarshalText wrote.
func (p *Path) UnmarshalText(text []byte) error {
	*p = Path{}
	for _, field := range strings.Fields(string(text)) {
		h, err := tlog.ParseHash(field)
		if err != nil {
			return fmt.Errorf("%q is no hash of a proof: %w", field, err)
		}
		*p = append(*p, h)
	}
	return nil
}

// CheckInclusion checks a proof that the event at a sequence, of which the Chain
// is known, is in a tree.
func CheckInclusion(p Path, sequence uint64, chain [32]byte, in Head) error {
	if sequence == 0 || sequence > in.Size {
		return fmt.Errorf("event %d is not in the first %d", sequence, in.Size)
	}
	if err := tlog.CheckRecord(tlog.RecordProof(p), int64(in.Size), in.Root, int64(sequence-1), Leaf(chain)); err != nil {
		return fmt.Errorf("event %d is not the one that was signed among the first %d", sequence, in.Size)
	}
	return nil
}

// CheckConsistency checks a proof that a tree grew out of an older one: that the
// events of the older are the first of the newer.
func CheckConsistency(p Path, older, newer Head) error {
	switch {
	case older.Size > newer.Size:
		return fmt.Errorf("a tree of %d events cannot have grown out of one of %d", newer.Size, older.Size)
	case older.Size == newer.Size && older.Root == newer.Root && len(p) == 0:
		return nil
	case older.Size == 0 && older.Root == (&Tree{}).Root() && len(p) == 0:
		return nil
	case older.Size > 0 && older.Size < newer.Size &&
		tlog.CheckTree(tlog.TreeProof(p), int64(newer.Size), newer.Root, int64(older.Size), older.Root) == nil:
		return nil
	}
	return fmt.Errorf("the first %d of %d events are not those of the older tree", older.Size, newer.Size)
}
