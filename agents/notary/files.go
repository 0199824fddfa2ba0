package notary

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/reprise-run/reprise/events/durable"
	"github.com/reprise-run/reprise/events/proof"
)

// CheckpointFile is the file of signed checkpoints in a directory: proof.Split
// reads it. Nothing is ever taken out of it.
func CheckpointFile(dir string) string { return filepath.Join(dir, "checkpoints") }

// VerifierFile is the file of the public key, what an auditor must hold: a line for
// each key that there was, the one in use last.
func VerifierFile(dir string) string { return filepath.Join(dir, "verifier") }

func keyFile(dir string) string { return filepath.Join(dir, "key") }

func treeFile(dir string) string { return filepath.Join(dir, "tree") }

// openKey reads the key of a directory, or makes it if it is not there. The public
// halves are those of the keys before, too.
func openKey(dir string) (secret string, public []string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, fmt.Errorf("cannot make the directory for checkpoints: %w", err)
	}
	s, err := os.ReadFile(keyFile(dir))
	none := errors.Is(err, fs.ErrNotExist)
	if err != nil && !none {
		return "", nil, fmt.Errorf("cannot read the key that signs checkpoints: %w", err)
	}
	p, err := os.ReadFile(VerifierFile(dir))
	public = strings.Fields(string(p))
	switch {
	case none && (err == nil || errors.Is(err, fs.ErrNotExist)):
		return makeKey(dir, public)
	case err == nil && len(public) == 0:
		err = errors.New("it is empty")
	}
	if err != nil {
		return "", nil, fmt.Errorf("cannot read the public key of checkpoints: %w; restore it from a copy, it is no secret", err)
	}
	return strings.TrimSpace(string(s)), public, nil
}

// makeKey makes a key that follows others.
func makeKey(dir string, before []string) (secret string, public []string, err error) {
	secret, verifier, err := proof.GenerateKey(rand.Reader)
	if err != nil {
		return "", nil, err
	}
	public = append(before, verifier)
	// The secret comes last: without it the next start makes another. A key that a power
	// failure takes away leaves a log with signatures that nobody can check.
	if err = durable.Replace(VerifierFile(dir), lines(public), 0o644); err == nil {
		err = durable.Replace(keyFile(dir), []byte(secret+"\n"), 0o600)
	}
	if err != nil {
		return "", nil, fmt.Errorf("cannot keep the key that signs checkpoints: %w", err)
	}
	return secret, public, nil
}

func lines(texts []string) []byte { return []byte(strings.Join(texts, "\n") + "\n") }

// files are the checkpoints apart from the log, and the tree.
type files struct {
	dir  string
	also []string
	log  *slog.Logger
	key  note.Verifier
	// ailing are directories of also whose failure was reported.
	ailing map[string]bool
}

func openFiles(dir string, also []string, log *slog.Logger, key note.Verifier, public []string) (*files, error) {
	f := &files{dir: dir, also: also, log: log, key: key, ailing: make(map[string]bool)}
	for _, dir := range append([]string{dir}, also...) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("checkpoints cannot be kept in %s: %w; choose another directory", dir, err)
		}
	}
	for _, dir := range also {
		if err := lay(VerifierFile(dir), public); err != nil {
			return nil, fmt.Errorf("checkpoints cannot be kept in %s: %w; choose another directory", dir, err)
		}
	}
	return f, nil
}

// lay puts the public keys beside checkpoints, if they are not there or only those
// before.
func lay(path string, public []string) error {
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	have := strings.Fields(string(content))
	switch {
	case slices.Equal(have, public):
		return nil
	case len(have) > len(public) || !slices.Equal(have, public[:len(have)]):
		return errors.New("it has those of another key")
	}
	return durable.Replace(path, lines(public), 0o644)
}

// add keeps a checkpoint, and the tree that it is of.
func (f *files) add(signed []byte, tree *proof.Tree) error {
	if err := appendNote(CheckpointFile(f.dir), signed); err != nil {
		return fmt.Errorf("the checkpoint cannot be kept: %w", err)
	}
	for _, dir := range f.also {
		err := appendNote(CheckpointFile(dir), signed)
		if err != nil && !f.ailing[dir] {
			f.log.Warn("checkpoints are not kept in a directory that they should be kept in", "dir", dir, "error", err)
		}
		f.ailing[dir] = err != nil
	}
	text, err := tree.MarshalText()
	if err == nil {
		err = durable.Replace(treeFile(f.dir), append(text, '\n'), 0o600)
	}
	if err != nil {
		f.log.Warn("the tree of checkpoints cannot be kept; the next start computes it again", "error", err)
	}
	return nil
}

// appendNote adds a checkpoint to a file of them, in place of one at its end that
// was not written whole.
func appendNote(path string, signed []byte) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	end, err := wholeEnd(f)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(proof.AppendNote(nil, signed), end); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if end > 0 {
		return durable.Confirm(f)
	}
	return durable.SyncDir(filepath.Dir(path))
}

// wholeEnd finds where the last whole checkpoint of a file ends, by its last bytes.
func wholeEnd(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	size := info.Size()
	tail := make([]byte, min(size, 2))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
		return 0, err
	}
	if size == 0 || bytes.Equal(tail, []byte("\n\n")) && !endsInText(f, size) {
		return size, nil
	}
	content, err := os.ReadFile(f.Name())
	if err != nil {
		return 0, err
	}
	_, rest := proof.Split(content)
	end := size - int64(len(rest))
	return end, f.Truncate(end)
}

// endsInText says whether a file was cut off between a checkpoint's text and its
// signature: the line before the end is none of a signature.
func endsInText(f *os.File, size int64) bool {
	tail := make([]byte, min(size, 1024))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
		return true
	}
	lines := bytes.Split(bytes.TrimRight(tail, "\n"), []byte("\n"))
	return !bytes.HasPrefix(lines[len(lines)-1], []byte("— "))
}

// last returns the newest checkpoint that was signed here, nil if there is none,
// and the tree to go on from: one that a checkpoint confirms, or the empty one.
func (f *files) last() (last *proof.Checkpoint, tree proof.Tree, err error) {
	content, err := os.ReadFile(CheckpointFile(f.dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, tree, nil
	}
	if err != nil {
		return nil, tree, fmt.Errorf("cannot read the checkpoints: %w", err)
	}
	var kept proof.Tree
	if text, err := os.ReadFile(treeFile(f.dir)); err == nil && kept.UnmarshalText(text) != nil {
		kept = proof.Tree{}
	}
	notes, _ := proof.Split(content)
	// The tree is of the newest, but for a crash between the two.
	for _, signed := range slices.Backward(notes) {
		c, err := proof.Open(signed, f.key)
		var other *proof.KeyError
		if errors.As(err, &other) {
			continue // of a key that was replaced
		}
		if err != nil {
			return nil, tree, fmt.Errorf("a checkpoint in %s cannot be relied on: %w; look with `reprise verify`", CheckpointFile(f.dir), err)
		}
		if last == nil {
			last = &c
		}
		if c.Head == kept.Head() && c.Chain == kept.Chain() {
			return last, kept, nil
		}
		if c.Size <= kept.Size() {
			break
		}
	}
	return last, tree, nil
}
