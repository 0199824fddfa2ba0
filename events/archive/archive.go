// Package archive writes and reads a part of a cluster's history, or all of it, as
// one file that needs nothing else: compressed, checked against every flipped bit,
// and with the hash chain, so that who holds a checkpoint can tell whether it is
// the history that the checkpoint is about. docs/archive-format.md describes the
// file to the byte.
//
// A Writer and a Reader stream: they hold one block of the file, whatever the
// file's size, and a Reader believes no length that it has not seen the bytes of.
// Evidence compares what is read with signed checkpoints.
//
// An archive whose first event is not the log's first begins with a snapshot: the
// objects as they were before that event. The chain does not cover the snapshot;
// it is what the program that wrote the archive had folded.
//
// testdata/logs at the top of the repository has archives of real clusters. Make
// one with `reprise export`.
package archive

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/proof"
)

// Version is that of the format that this program writes, and the highest that it
// reads.
const Version = 1

// Header is what an archive says of itself before its first event.
type Header struct {
	// Origin names the log, as its checkpoints do; Cluster is the uid of the
	// namespace kube-system, by which Kubernetes tools tell clusters apart.
	Origin  string `json:"origin,omitempty"`
	Cluster string `json:"cluster,omitempty"`
	// From and To are the sequences of the first and the last event.
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
	// Before is the chain of the event before From: zeros if From is 1.
	Before Chain `json:"before"`
	// Snapshot is the state before From, nil if From is 1.
	Snapshot *Snapshot `json:"snapshot,omitempty"`
	// Proof ties the events to a signed checkpoint of the log. It is nil for a log
	// that has none of so many events.
	Proof *Proof `json:"proof,omitempty"`
	// Program is the version of the program that wrote it, Created when.
	Program string    `json:"program,omitempty"`
	Created time.Time `json:"created"`
}

// Snapshot says of the objects at an archive's beginning how many there are, and
// vouches for them with the SHA-256 over their records.
type Snapshot struct {
	Objects uint64 `json:"objects"`
	Hash    Chain  `json:"sha256"`
}

// Footer is what an archive says of itself after its last event.
type Footer struct {
	// Events is how many there are, and Chain that of the last.
	Events uint64 `json:"events"`
	Chain  Chain  `json:"chain"`
	// Raw is how many bytes the events have before compression.
	Raw uint64 `json:"raw"`
}

// Proof is what came with an archive to show that its events are those that a
// checkpoint of the log covers.
type Proof struct {
	// Tree is that of the events before From, as far as it must be known to grow by
	// those in the archive. It is nil if From is 1.
	Tree *proof.Tree `json:"tree,omitempty"`
	// Checkpoint is the signed note. It speaks of the events before From at least.
	Checkpoint string `json:"checkpoint"`
	// Grown shows that the checkpoint's tree grew out of the one that the archive's
	// last event leads to. It is empty if the checkpoint does not go beyond that.
	Grown proof.Path `json:"grown,omitempty"`
}

// Chain is a SHA-256, in JSON in hex.
type Chain [32]byte

// String is in hex.
func (c Chain) String() string { return hex.EncodeToString(c[:]) }

// MarshalText implements encoding.TextMarshaler.
func (c Chain) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, c[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Chain) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(c)) {
		return fmt.Errorf("a hash has 64 digits, and this one %d", len(text))
	}
	_, err := hex.Decode(c[:], text)
	return err
}

// check refuses what no writer makes.
func (h *Header) check() error {
	switch {
	case h.From == 0 || h.To < h.From:
		return fmt.Errorf("it says that it goes from event %d to %d", h.From, h.To)
	case h.From == 1 && (h.Before != Chain{} || h.Snapshot != nil):
		return fmt.Errorf("it begins with the log and says that there was something before")
	case h.Proof != nil && h.From > 1 && (h.Proof.Tree == nil || h.Proof.Tree.Size() != h.From-1 || h.Proof.Tree.Chain() != h.Before):
		return fmt.Errorf("its tree is not that of the events before %d", h.From)
	case h.From > 1 && h.Snapshot == nil:
		return fmt.Errorf("it begins with event %d and has no snapshot of what was before", h.From)
	}
	return nil
}

func parseJSON(b []byte, into any) error {
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("what it says of itself is no JSON: %w", err)
	}
	return nil
}

// Object is one object of a snapshot.
type Object struct {
	Ref events.Ref
	UID string
	// Created and Sequence are the sequences of its first and latest event, and
	// Version counts its events.
	Created, Sequence, Version uint64
	// Raw is the object in canonical JSON.
	Raw []byte
}
