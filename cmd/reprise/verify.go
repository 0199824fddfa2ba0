package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream/blocks"
	"github.com/reprise-run/reprise/events/proof"
	"github.com/reprise-run/reprise/projections/history"
	"github.com/reprise-run/reprise/projections/pebble"
)

// newVerifyCommand proves that the history is the one that was written, and that the
// state is what it says.
func newVerifyCommand(env *environment) *cobra.Command {
	v := verifier{environment: env}
	c := &cobra.Command{
		Use:   "verify [ARCHIVE]",
		Short: "Prove that the history was not altered, and that the state is what it says",
		Long: `Reads the files of the log from the first event, and changes nothing of them. It checks
the chain of hashes that ties each event to the one before, and compares the log with
every signed checkpoint: those that you hold (--checkpoint), those in the data directory,
and those that the log records. Then it folds it all into an empty projection and compares
that with the one in use, to the byte. Exits with 1 if anything is wrong, and names the
first bad sequence.

Whoever can write to the data directory can read the key that signs there. So an auditor
keeps a checkpoint and the public key elsewhere, and passes both. If the log was signed by
another key too, that is said, and it is for you to know whether its owner replaced it.

Of an archive, it proves that its events are those that a checkpoint covers: the one in
it, if you name the key, and those that you hold.`,
		Example: `  # On the cluster's machine, beside the running server
  reprise verify --checkpoint audit.checkpoint --key reprise.verifier

  # On a copy of the data directory, without a server
  reprise verify --offline --data-dir /evidence --checkpoint audit.checkpoint --key reprise.verifier

  # An archive
  reprise verify incident.reprise --key reprise.verifier`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if file := strings.Join(args, ""); file != "" || env.opened() != "" {
				return v.archive(c.Context(), cmp.Or(file, env.opened()))
			}
			return v.run(c.Context())
		},
	}
	c.Flags().StringArrayVar(&v.checkpoints, "checkpoint", nil, "a `FILE` of signed checkpoints that you hold, or a directory given to 'reprise up --checkpoints'; may be repeated")
	c.Flags().StringArrayVar(&v.keys, "key", nil, "the public key to trust, or a file of it, in place of the one in the data directory; repeat it if the key was replaced")
	c.Flags().BoolVar(&v.offline, "offline", false, "verify the data directory without a server")
	c.Flags().BoolVar(&v.logOnly, "log-only", false, "leave out the comparison of the state, which takes longer than all else")
	return c
}

type verifier struct {
	*environment
	checkpoints, keys []string
	offline, logOnly  bool
}

func (v *verifier) run(ctx context.Context) error {
	known, err := v.gatherEvidence(v.keys, v.checkpoints)
	if err != nil {
		return err
	}
	running, err := v.running()
	if err != nil {
		return err
	}
	if v.offline && running {
		return fmt.Errorf("a server runs on %s: leave out --offline, or verify a copy of the directory", v.DataDir)
	}
	if !v.offline && !running && !v.logOnly {
		return fmt.Errorf("no server runs on %s: start one with `reprise up`, or say --offline to verify the directory as it lies there", v.DataDir)
	}
	stream, last, err := v.log(ctx, known, running)
	if err != nil {
		return err
	}
	switch {
	case v.logOnly:
		fmt.Fprintln(v.Stdout, "the state was not compared, as --log-only says")
	case v.offline:
		err = v.compareOffline(ctx, stream, last)
	default:
		err = v.compareOnline(ctx)
	}
	if err == nil && len(known.doubts) > 0 {
		err = fmt.Errorf("the log is whole, and %s", strings.Join(known.doubts, "; "))
	}
	return err
}

// running says whether a server has the data directory.
func (v *verifier) running() (bool, error) {
	f, err := os.Open(filepath.Join(v.DataDir, lockName))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot tell whether a server runs on %s: %w", v.DataDir, err)
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// log verifies the log's files.
func (v *verifier) log(ctx context.Context, known *evidence, running bool) (*blocks.Stream, uint64, error) {
	open, instance := blocks.Open, ""
	if running {
		var err error
		if instance, err = v.instance(ctx); err != nil {
			return nil, 0, fmt.Errorf("a server runs on %s and does not answer, so that it is not known whether it has made the log whole after a crash; wait until it does, or stop it and say --offline: %w", v.DataDir, err)
		}
		open = blocks.OpenBeside
	}
	stream, err := open(v.LogDir(), subjectPrefix)
	if err != nil {
		return nil, 0, err
	}
	bar := newBar(v.Stderr, "verifying the log", max(stream.Bytes(), 1))
	progressbar.OptionShowBytes(true)(bar)
	audit := proof.NewAudit(known.held, known.keys...)
	result, err := stream.Audit(ctx, audit, func(read int64, _ uint64) { _ = bar.Set64(min(read, stream.Bytes())) })
	_ = bar.Clear()
	if err != nil {
		return nil, 0, err
	}
	if result.Newer != nil {
		return nil, 0, fmt.Errorf("the log is whole up to sequence %d, and goes on: %w", audit.Taken(), result.Newer)
	}
	if result.Finding != nil && running {
		if again, err := v.instance(ctx); err != nil || again != instance {
			return nil, 0, errors.Join(errors.New("the server ended while its log was verified, and what was found may come of that: verify again"), result.Finding, err)
		}
	}
	if result.Finding != nil {
		return nil, 0, errors.Join(append([]error{result.Finding}, asErrors(known.doubts)...)...)
	}
	tree := audit.Tree()
	held, recorded := audit.Compared()
	files := "one file"
	if n := stream.Len(); n != 1 {
		files = fmt.Sprintf("%d files", n)
	}
	fmt.Fprintf(v.Stdout, "log         %d events in %s, each as it was appended\nroot        %s\n", audit.Taken(), files, tree.Root())
	switch {
	case len(known.keys) == 0:
		fmt.Fprintln(v.Stdout, "checkpoints none was compared: there is no key here that could have signed one; the chain alone was checked")
	default:
		fmt.Fprintf(v.Stdout, "checkpoints %d held and %d recorded in the log agree, signed by %s\n", held, recorded, known.signers())
	}
	for _, s := range audit.Strangers() {
		known.doubts = append(known.doubts, fmt.Sprintf(
			"from event %d on it records checkpoints (%d) that are signed by the key %s, which is not among those to trust: if its owner replaced the key, give that one by --key as well; if not, somebody else may have written all after event %d",
			s.First, s.Count, s.Key, s.Sure))
	}
	if result.Remark != "" {
		known.remarks = append(known.remarks, result.Remark)
	}
	for _, remark := range known.remarks {
		fmt.Fprintln(v.Stdout, "note       ", remark)
	}
	return stream, audit.Taken(), nil
}

// instance is which server answers: one that does has made its log whole, and it is
// another one after each start.
func (v *verifier) instance(ctx context.Context) (string, error) {
	nc, _, err := v.connectAsOperator()
	if err != nil {
		return "", err
	}
	defer nc.Close()
	_, err = historian.NewClient(nc, subjectPrefix).Resolve(ctx, history.Point{})
	return nc.ConnectedServerId(), err
}

func asErrors(texts []string) (all []error) {
	for _, text := range texts {
		all = append(all, errors.New(text))
	}
	return all
}

// compareOnline has the server compare its projection with its log.
func (v *verifier) compareOnline(ctx context.Context) error {
	return v.ask(func(h *historian.Client) error {
		bar := newBar(v.Stderr, "the server rebuilds the state", -1)
		r, err := h.Verify(ctx)
		_ = bar.Finish()
		if err != nil {
			return err
		}
		return v.report(r)
	})
}

// compareOffline compares the projection with the log's files.
func (v *verifier) compareOffline(ctx context.Context, stream *blocks.Stream, last uint64) (err error) {
	dir, remove, err := scratch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	store, err := pebble.OpenUntouched(v.ProjectionDir(), dir)
	if errors.Is(err, os.ErrNotExist) {
		fmt.Fprintln(v.Stdout, "the state was not compared: there is no projection, and the next start makes one from the log")
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	bar := newBar(v.Stderr, "rebuilding the state", max(int64(store.Folded()), 1))
	report, err := store.Verify(ctx, counted{stream.Log(last), bar}, nil)
	_ = bar.Clear()
	if err != nil {
		return err
	}
	return v.report(historian.Verification{
		Sequence: report.Sequence, Chain: report.Chain, Objects: report.Objects, Rebuilt: report.Hash, Stored: report.Stored,
		Fault: cmp.Or(report.Damage, report.Difference),
	})
}

func (v *verifier) report(r historian.Verification) error {
	fmt.Fprintf(v.Stdout, "sequence    %d\nobjects     %d\nchain       %s\nin use      %s\nrebuilt     %s\n",
		r.Sequence, r.Objects, r.Chain, r.Stored, r.Rebuilt)
	if r.Fault != "" {
		return fmt.Errorf("not identical: %s", r.Fault)
	}
	fmt.Fprintln(v.Stdout, "identical: the chain is whole, and the state is what the log says")
	return nil
}

// counted is a log that shows how far it was read.
type counted struct {
	pebble.Followed
	bar *progressbar.ProgressBar
}

// Follow is events.Log's.
func (c counted) Follow(ctx context.Context, from uint64) (events.Reader, error) {
	r, err := c.Followed.Follow(ctx, from)
	return countedReader{r, c.bar}, err
}

type countedReader struct {
	events.Reader
	bar *progressbar.ProgressBar
}

// Next is events.Reader's.
func (r countedReader) Next(ctx context.Context) ([]events.Event, error) {
	run, err := r.Reader.Next(ctx)
	_ = r.bar.Add(len(run))
	return run, err
}
