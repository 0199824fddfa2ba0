package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/reprise-run/reprise/agents/notary"
	"github.com/reprise-run/reprise/events/proof"
)

// evidence is what a log is verified against: keys, and the checkpoints that they
// signed.
type evidence struct {
	keys []note.Verifier
	held []proof.Held
	// doubts are checkpoints of the cluster itself that prove nothing, in words.
	doubts []string
	// remarks are what an auditor should know though it proves nothing.
	remarks []string
}

// gatherEvidence reads the keys and checkpoints that an auditor names, and those of
// the data directory. The auditor's must be good; what is wrong with the cluster's
// own is a finding.
func (e *environment) gatherEvidence(keys, checkpoints []string) (*evidence, error) {
	v := &evidence{}
	for _, text := range keys {
		if err := v.addKey(text); err != nil {
			return nil, err
		}
	}
	own, err := os.ReadFile(notary.VerifierFile(e.ProofDir()))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("cannot read the public key of checkpoints: %w", err)
	case len(keys) == 0:
		err = v.addKey(string(own))
	default:
		v.compareKey(own)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, path := range checkpoints {
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			path = notary.CheckpointFile(path)
		}
		if err := v.addFile(path); err != nil {
			return nil, err
		}
		if len(v.doubts) > 0 {
			return nil, errors.New(v.doubts[0])
		}
	}
	err = v.addFile(notary.CheckpointFile(e.ProofDir()))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return v, err
}

// addKey adds a key that is given as such, or as a file of one or, if it was
// replaced, more.
func (v *evidence) addKey(text string) error {
	keys, err := verifiers(text)
	if err != nil {
		content, readErr := os.ReadFile(strings.TrimSpace(text))
		if readErr != nil {
			return fmt.Errorf("--key %q is neither a public key, as `reprise checkpoint --key` prints it, nor a file of one", text)
		}
		if keys, err = verifiers(string(content)); err != nil {
			return fmt.Errorf("the file %s holds no public key, as `reprise checkpoint --key` prints it: %w", text, err)
		}
	}
	for _, key := range keys {
		if !slices.ContainsFunc(v.keys, func(k note.Verifier) bool { return proof.KeyID(k) == proof.KeyID(key) }) {
			v.keys = append(v.keys, key)
		}
	}
	return nil
}

// verifiers reads public keys, a line each.
func verifiers(text string) (keys []note.Verifier, err error) {
	for _, line := range strings.Fields(text) {
		key, err := note.NewVerifier(line)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		err = errors.New("it is empty")
	}
	return keys, err
}

// compareKey doubts a cluster whose own key, the last of its file, is not the
// auditor's.
func (v *evidence) compareKey(file []byte) {
	own := strings.Fields(string(file))
	if len(own) == 0 {
		v.doubts = append(v.doubts, "the cluster's own key cannot be read: its file is empty")
		return
	}
	key, err := note.NewVerifier(own[len(own)-1])
	if err != nil {
		v.doubts = append(v.doubts, fmt.Sprintf("the cluster's own key cannot be read: %v", err))
		return
	}
	var known []string
	for _, k := range v.keys {
		if proof.KeyID(k) == proof.KeyID(key) {
			return
		}
		known = append(known, proof.KeyID(k))
	}
	v.doubts = append(v.doubts, fmt.Sprintf("the cluster signs with the key %s, and the one to trust is %s: it was replaced; if by its owner, give the new one by --key as well", proof.KeyID(key), strings.Join(known, ", ")))
}

// addFile adds the checkpoints of a file.
func (v *evidence) addFile(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("cannot read checkpoints: %w", err)
	}
	if len(v.keys) == 0 {
		return fmt.Errorf("%s has checkpoints, and there is no key to check them with: name one with --key", path)
	}
	notes, rest := proof.Split(content)
	if len(notes) == 0 {
		// One that was printed lacks the empty line that ends it in a file of many.
		if notes, rest = proof.Split(append(content, '\n')); len(notes) == 0 {
			return fmt.Errorf("%s holds no signed checkpoint, as `reprise checkpoint` prints it", path)
		}
	}
	if len(rest) > 0 {
		if more, left := proof.Split(append(rest, '\n')); len(left) == 0 {
			notes = append(notes, more...)
		} else {
			v.remarks = append(v.remarks, fmt.Sprintf("the last checkpoint in %s was not written to its end, as after a crash, and is passed over", path))
		}
	}
	others := map[string]int{}
	for i, signed := range notes {
		from := "in " + path
		if len(notes) > 1 {
			from = fmt.Sprintf("%d of %d in %s", i+1, len(notes), path)
		}
		c, err := proof.Open(signed, v.keys...)
		var by *proof.KeyError
		if errors.As(err, &by) {
			others[err.Error()]++
			continue
		}
		if err != nil {
			v.doubts = append(v.doubts, fmt.Sprintf("the checkpoint %s cannot be trusted: %v", from, err))
			continue
		}
		v.held = append(v.held, proof.Held{Checkpoint: c, From: from})
	}
	for _, why := range slices.Sorted(maps.Keys(others)) {
		v.doubts = append(v.doubts, fmt.Sprintf("a checkpoint in %s (%d of %d) cannot be trusted: %s", path, others[why], len(notes), why))
	}
	return nil
}

// signers are the keys in words.
func (v *evidence) signers() string {
	var all []string
	for _, k := range v.keys {
		all = append(all, proof.KeyID(k))
	}
	return strings.Join(all, ", ")
}

// scratch makes a directory to work in, beside what is large there already.
func scratch() (dir string, remove func() error, err error) {
	top, err := os.MkdirTemp("", "reprise-verify-")
	if err != nil {
		return "", nil, fmt.Errorf("verifying needs a directory to work in: %w; set TMPDIR to one with room", err)
	}
	return filepath.Join(top, "projection"), func() error { return os.RemoveAll(top) }, nil
}
