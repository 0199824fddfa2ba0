package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/reprise-run/reprise/events/archive"
)

// archiveMark is a file in the directory of an archive that is open: it has the
// archive's name.
const archiveMark = "archive"

// opened is the archive that is open in the data directory, "" if none is.
func (e *environment) opened() string {
	name, err := os.ReadFile(filepath.Join(e.DataDir, archiveMark))
	if err != nil {
		return ""
	}
	return string(name)
}

// needsCluster refuses where an archive is open what only a cluster can do.
func (e *environment) needsCluster(what string) error {
	if file := e.opened(); file != "" {
		return fmt.Errorf("this is the archive %s, and an archive %s: ask the cluster, outside of `reprise open`", file, what)
	}
	return nil
}

// archive verifies an archive against the keys and checkpoints that the auditor
// names. Those of a cluster on this machine count for nothing: it may be another.
func (v *verifier) archive(ctx context.Context, file string) error {
	known := &evidence{}
	for _, text := range v.keys {
		if err := known.addKey(text); err != nil {
			return err
		}
	}
	for _, path := range v.checkpoints {
		if err := known.addFile(path); err != nil {
			return err
		}
	}
	if len(known.doubts) > 0 {
		return errors.New(known.doubts[0])
	}
	f, err := openArchive(file)
	if err != nil {
		return err
	}
	defer f.Close()
	a, err := archive.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	defer a.Close()
	verdict, err := v.compareArchive(ctx, a, known)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	h := a.Header()
	if len(known.keys) > 0 && verdict.Sure < h.From {
		return fmt.Errorf("%s: its events fit each other, but nothing that %s has signed speaks of them, so they may be anybody's; name a checkpoint that does with --checkpoint", file, known.signers())
	}
	fmt.Fprintf(v.Stdout, "archive     events %d to %d, each as it was written\nchain       %s\n", h.From, h.To, a.Footer().Chain)
	fmt.Fprintln(v.Stdout, "checkpoints", told(verdict, h, known))
	if h.Snapshot != nil {
		fmt.Fprintf(v.Stdout, "snapshot    %d objects as of event %d, as the archive's writer says: only the events before would prove them\n", h.Snapshot.Objects, h.From-1)
	}
	return nil
}

func (v *verifier) compareArchive(ctx context.Context, a *archive.Reader, known *evidence) (archive.Verdict, error) {
	h := a.Header()
	bar := newBar(v.Stderr, "verifying the archive", int64(h.To-h.From+1))
	defer func() { _ = bar.Clear() }() // It only draws.
	evidence, err := archive.NewEvidence(h, known.held, known.keys...)
	if err != nil {
		return archive.Verdict{}, err
	}
	for _, err := range a.Objects() {
		if err != nil {
			return archive.Verdict{}, err
		}
	}
	for batch, err := range a.Batches() {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = evidence.Take(batch)
		}
		if err != nil {
			return archive.Verdict{}, err
		}
		_ = bar.Add(len(batch))
	}
	return evidence.End()
}

// told says what a verdict is worth.
func told(v archive.Verdict, h archive.Header, known *evidence) string {
	text := "it has none"
	switch {
	case v.Own != nil && v.Signed:
		text = fmt.Sprintf("its own agrees: signed by %s over the first %d events", known.signers(), v.Own.Size)
	case v.Own != nil:
		text = fmt.Sprintf("its own agrees, over the first %d events of %s; whether that log's key has signed it, --key tells", v.Own.Size, v.Own.Origin)
	}
	if v.Own != nil && v.Own.Size < h.To {
		text += fmt.Sprintf("; events from %d on came after it", max(v.Own.Size+1, h.From))
	}
	if v.Held > 0 {
		text += fmt.Sprintf("; %d held agree", v.Held)
	}
	if v.Beyond > 0 {
		text += fmt.Sprintf("; %d held are of other events and say nothing about these", v.Beyond)
	}
	return text
}
