package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/agents/api"
	"github.com/reprise-run/reprise/agents/api/past"
	"github.com/reprise-run/reprise/agents/historian"
	"github.com/reprise-run/reprise/events/archive"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/pebble"
)

// archiveServer serves an archive as a cluster's server serves its history: on
// loopback, from directories of its own, to commands that find it by these.
type archiveServer struct {
	file    string
	env     *environment
	loaded  loaded
	cut     *archive.DamageError // what the archive ends with that is opened as far as it is good
	store   *pebble.Store
	closers []func()
}

// loaded is what was found in an archive.
type loaded struct {
	header  archive.Header
	footer  archive.Footer
	verdict archive.Verdict
	state   *projections.State
}

func (s *archiveServer) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

func (s *archiveServer) onClose(f func()) { s.closers = append(s.closers, f) }

// log takes what the parts report.
func (s *archiveServer) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(s.env.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// load makes a projection of the archive.
func (s *archiveServer) load(ctx context.Context, f io.Reader, damagedToo bool) error {
	held, err := acquireLock(s.env.DataDir)
	if err != nil {
		return err
	}
	s.onClose(func() { held.Close() })
	s.store, err = pebble.Open(s.env.ProjectionDir(), pebble.Options{Log: s.log()})
	if err != nil {
		return err
	}
	s.onClose(func() { s.store.Close() }) // What it wrote is removed.
	s.loaded, err = loadArchive(ctx, f, s.store, s.env.Stderr)
	if !errors.As(err, &s.cut) {
		return err
	}
	switch first := s.loaded.header.From; {
	case first == 0 || s.store.Folded() < first:
		return err
	case !damagedToo:
		return fmt.Errorf("%w; --damaged-ok opens the good part", err)
	}
	fmt.Fprintf(s.env.Stderr, "reprise: %v\nreprise: --damaged-ok: what follows is answered from events %d to %d alone\n",
		err, s.loaded.header.From, s.store.Folded())
	return nil
}

// serve answers questions until close.
func (s *archiveServer) serve(ctx context.Context) error {
	if err := s.servePast(ctx); err != nil {
		return err
	}
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: s.env.LogDir(), Listen: "127.0.0.1:0", Logger: s.log()})
	if err != nil {
		return err
	}
	s.onClose(server.Shutdown)
	publish, subscribe := historian.Permissions(subjectPrefix)
	if _, err := server.AddUser(operator, jetstream.Permissions{Publish: publish, Subscribe: subscribe}); err != nil {
		return err
	}
	nc, err := server.Connect()
	if err != nil {
		return err
	}
	s.onClose(nc.Close)
	if err := s.serveHistory(nc); err != nil {
		return err
	}
	full, err := filepath.Abs(s.file)
	if err == nil {
		err = os.WriteFile(filepath.Join(s.env.DataDir, archiveMark), []byte(full), 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot say which archive is served: %w", err)
	}
	if err := os.WriteFile(s.env.addressFile(), []byte(server.Addr()+"\n"), 0o600); err != nil {
		return fmt.Errorf("cannot say where the archive is served: %w", err)
	}
	return nil
}

// servePast serves the Kubernetes API of the archive's moments. Values of Secrets stay
// sealed: no archive has their keys.
func (s *archiveServer) servePast(ctx context.Context) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("cannot serve the past: %w", err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	takeUpstreamLog(ctx, s.log().Handler(), s.env.Stderr)
	server, err := api.ServePast(ctx, api.PastOptions{
		Dir: s.env.APIDir(), Listener: listener, Kubeconfig: s.env.Kubeconfig(), Past: past.Options{Reader: s.store},
	})
	if err != nil {
		cancel()
		return errors.Join(err, listener.Close())
	}
	s.onClose(func() {
		cancel()
		<-server.Done()
	})
	return nil
}

func (s *archiveServer) serveHistory(nc *nats.Conn) error {
	end := s.store.Folded()
	stop, err := historian.Serve(nc, subjectPrefix, historian.Source{
		Reader: s.store,
		Wait: func(_ context.Context, sequence uint64) error {
			if sequence <= end {
				return nil
			}
			return fmt.Errorf("nothing comes after event %d: this is an archive", end)
		},
		Verify: func(context.Context) (historian.Verification, error) {
			return historian.Verification{}, errors.New("this is an archive: `reprise verify FILE` verifies it")
		},
		Checkpoint: func(context.Context) ([]byte, error) {
			return nil, errors.New("an archive signs no checkpoints: ask the cluster that it is of")
		},
		Export: func(context.Context, historian.ExportRange, io.Writer) error {
			return errors.New("this is an archive: copy its file, or export from the cluster that it is of")
		},
	})
	if err == nil {
		s.onClose(stop)
	}
	return err
}

// describe says what is open.
func (s *archiveServer) describe() string {
	h := s.loaded.header
	text := fmt.Sprintf("%s has events %d to %d", s.file, h.From, s.store.Folded())
	if s.cut != nil {
		text += fmt.Sprintf(" of %d that are good", h.To)
	}
	if h.Cluster != "" {
		text += ", of the cluster " + shown(h.Cluster)
	}
	text += fmt.Sprintf(", written by reprise %s on %s.\n", shown(h.Program), h.Created.Local().Format(time.RFC1123))
	if s.cut == nil {
		text += "Checkpoints: " + told(s.loaded.verdict, h, nil) + ".\n"
	}
	if h.Snapshot != nil {
		text += fmt.Sprintf("How the cluster was before event %d (%d objects) is what the writer of the archive says: the hash chain does not cover it.\n",
			h.From, h.Snapshot.Objects)
	}
	return text
}
