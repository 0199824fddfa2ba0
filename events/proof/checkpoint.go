package proof

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint is what its signer vouches for: that the log of this origin began
// with Size events whose tree has this root.
type Checkpoint struct {
	// Origin names the log.
	Origin string
	Head
	// Chain is the Chain of event Size.
	Chain [32]byte
	// Time is when it was signed, in UTC, to the millisecond.
	Time time.Time
}

// Checkpoint says what there is to be signed about the tree.
func (t *Tree) Checkpoint(origin string, now time.Time) Checkpoint {
	return Checkpoint{Origin: origin, Head: t.Head(), Chain: t.chain, Time: now.UTC().Truncate(time.Millisecond)}
}

// Text is what is signed: see the package comment.
func (c Checkpoint) Text() string {
	return fmt.Sprintf("%s\n%d\n%s\nchain %x\ntime %s\n", c.Origin, c.Size, c.Root, c.Chain, c.Time.Format(time.RFC3339Nano))
}

// ParseCheckpoint reads what Text wrote. Extension lines that it does not know are
// refused: a checkpoint of a newer version may mean more by them.
func ParseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 6 || lines[5] != "" {
		return Checkpoint{}, errors.New("not a checkpoint of Reprise: it has an origin, a size, a root, a chain and a time, each in a line")
	}
	c := Checkpoint{Origin: lines[0]}
	var err error
	if c.Size, err = strconv.ParseUint(lines[1], 10, 63); err != nil {
		return c, fmt.Errorf("the checkpoint's size %q is no number of events", lines[1])
	}
	if c.Root, err = tlog.ParseHash(lines[2]); err != nil {
		return c, fmt.Errorf("the checkpoint's root %q is no hash", lines[2])
	}
	chain, ok := strings.CutPrefix(lines[3], "chain ")
	if c.Chain, err = parseChain(chain); !ok || err != nil {
		return c, fmt.Errorf("the checkpoint has no chain, but %q", lines[3])
	}
	at, ok := strings.CutPrefix(lines[4], "time ")
	if c.Time, err = time.Parse(time.RFC3339Nano, at); !ok || err != nil {
		return c, fmt.Errorf("the checkpoint has no time, but %q", lines[4])
	}
	if c.Text() != text {
		return c, errors.New("the checkpoint is not written as Reprise writes them")
	}
	return c, nil
}

// Sign returns the checkpoint as a signed note. The signer's name must be the
// checkpoint's origin.
func Sign(c Checkpoint, by note.Signer) ([]byte, error) {
	if by.Name() != c.Origin {
		return nil, fmt.Errorf("the key of %s cannot sign for %s", by.Name(), c.Origin)
	}
	return note.Sign(&note.Note{Text: c.Text()}, by)
}

// Open reads a signed checkpoint and checks its signature. It fails with a
// *KeyError if none of the keys has signed it, and with a *note.InvalidSignatureError
// (wrapped) if one is said to have, and has not.
func Open(signed []byte, keys ...note.Verifier) (Checkpoint, error) {
	n, err := note.Open(signed, note.VerifierList(keys...))
	var unknown *note.UnverifiedNoteError
	if errors.As(err, &unknown) {
		return Checkpoint{}, &KeyError{Signed: signatures(unknown.Note.UnverifiedSigs), Known: names(keys)}
	}
	if err != nil {
		return Checkpoint{}, fmt.Errorf("not a checkpoint that can be relied on: %w", err)
	}
	c, err := ParseCheckpoint(n.Text)
	if err == nil && n.Sigs[0].Name != c.Origin {
		err = fmt.Errorf("the checkpoint is of %s, and signed by %s", c.Origin, n.Sigs[0].Name)
	}
	return c, err
}

// KeyError says that a checkpoint is signed by a key that is not among the known.
type KeyError struct {
	// Signed and Known are keys by name and hash, as KeyID prints them.
	Signed, Known []string
}

func (e *KeyError) Error() string {
	return fmt.Sprintf("it is signed by the key %s, and the one to trust is %s", strings.Join(e.Signed, ", "), strings.Join(e.Known, ", "))
}

// KeyID is the name and the hash by which a key is told from others, as they
// begin a verifier key.
func KeyID(v interface {
	Name() string
	KeyHash() uint32
}) string {
	return fmt.Sprintf("%s+%08x", v.Name(), v.KeyHash())
}

func names(keys []note.Verifier) (all []string) {
	for _, k := range keys {
		all = append(all, KeyID(k))
	}
	return all
}

func signatures(sigs []note.Signature) (all []string) {
	for _, s := range sigs {
		all = append(all, fmt.Sprintf("%s+%08x", s.Name, s.Hash))
	}
	return all
}

// GenerateKey makes the key of a log, and with it the log's origin. The first
// result is secret; the second is what an auditor must hold.
func GenerateKey(random io.Reader) (signer, verifier string, err error) {
	var id [6]byte
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return "", "", fmt.Errorf("cannot make a key for checkpoints: %w", err)
	}
	return note.GenerateKey(random, fmt.Sprintf("reprise.run/log/%x", id))
}

// Split cuts a file of signed checkpoints into notes. In the file each ends in an
// empty line, which is not part of it. What is left at the end without one was not
// written to its end.
func Split(file []byte) (notes [][]byte, rest []byte) {
	for len(file) > 0 {
		// A note is a text, an empty line, and lines of signatures.
		text := bytes.Index(file, []byte("\n\n"))
		if text < 0 {
			return notes, file
		}
		end := bytes.Index(file[text+2:], []byte("\n\n"))
		if end < 0 {
			return notes, file
		}
		end += text + 3
		notes = append(notes, file[:end])
		file = file[end+1:]
	}
	return notes, nil
}

// AppendNote appends a signed checkpoint to the content of a file of them.
func AppendNote(file, signed []byte) []byte { return append(append(file, signed...), '\n') }
