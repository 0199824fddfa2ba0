package jetstream

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/reprise-run/reprise/events"
)

// vault is a stream of its own with a subject a name. It is not compressed, so
// that what is erased is overwritten where it is and nowhere else; and it has no
// limit of messages a subject, because what JetStream drops for a limit stays in
// its files: only an erasure overwrites. Of several replicas the leader alone answers: one
// that lags would not know a key that is there, and leave it when it is to be erased.
type vault struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
	root   string
}

var _ events.Vault = (*vault)(nil)

// Vault opens the vault beside the history, and makes its stream if there is none.
func Vault(ctx context.Context, nc *nats.Conn, cfg Config) (events.Vault, error) {
	js, cfg, err := cfg.on(nc)
	if err != nil {
		return nil, err
	}
	root := cfg.Prefix + "-vault"
	want := jetstream.StreamConfig{
		Name:        streamName(cfg.Prefix) + "_VAULT",
		Description: "The keys of encrypted objects, each erased with its object. No part of the history.",
		Subjects:    []string{root + ".*"},
		Storage:     jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
		Compression: jetstream.NoCompression, Replicas: cfg.Replicas, AllowDirect: cfg.Replicas == 1,
		MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxConsumers: -1,
	}
	stream, err := js.Stream(ctx, want.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		stream, err = js.CreateStream(ctx, want)
	case err == nil:
		have := stream.CachedInfo().Config
		if have.DenyDelete || have.MaxAge != 0 || have.MaxMsgsPerSubject > 0 || have.Storage != want.Storage || have.Compression != want.Compression {
			return nil, fmt.Errorf("stream %s was not made by this program: its keys could not be erased, or would be lost; use another prefix or data directory", want.Name)
		}
		if have.Replicas != want.Replicas || have.AllowDirect != want.AllowDirect {
			have.Replicas, have.AllowDirect = want.Replicas, want.AllowDirect
			stream, err = js.UpdateStream(ctx, have)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open stream %s: %w", want.Name, err)
	}
	return &vault{nc: nc, js: js, stream: stream, root: root + "."}, nil
}

// Create is events.Vault's.
func (v *vault) Create(ctx context.Context, name string, value []byte) error {
	err := v.put(ctx, name, value, 0)
	if wrongRevision(err) {
		// Its writer may not have been answered, because it could not be synced.
		if s := embedded(v.nc); s != nil {
			if err := s.look(); err != nil {
				return err
			}
		}
		return events.ErrKept
	}
	return err
}

func (v *vault) put(ctx context.Context, name string, value []byte, last uint64) error {
	if !events.VaultName(name) {
		return fmt.Errorf("%q cannot be a name in a vault", name)
	}
	if _, err := v.js.Publish(ctx, v.root+name, value, jetstream.WithExpectLastSequencePerSubject(last)); err != nil {
		return fmt.Errorf("cannot keep %s: %w", name, err)
	}
	return v.confirmed()
}

// confirmed says whether what was done last is on the disk. An event that needs a key is
// durable without the file system's journal, and the key is not.
func (v *vault) confirmed() error { return confirmSync(v.nc, v.stream.CachedInfo().Config.Name) }

// Get is events.Vault's.
func (v *vault) Get(ctx context.Context, name string) (events.Kept, error) {
	m, err := v.stream.GetLastMsgForSubject(ctx, v.root+name)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return events.Kept{}, events.ErrNotKept
	}
	if err != nil {
		return events.Kept{}, fmt.Errorf("cannot look up %s: %w", name, err)
	}
	return v.kept(m), nil
}

func (v *vault) kept(m *jetstream.RawStreamMsg) events.Kept {
	return events.Kept{Name: strings.TrimPrefix(m.Subject, v.root), Value: m.Data, Since: m.Time.UTC(), Revision: m.Sequence}
}

// Replace is events.Vault's.
func (v *vault) Replace(ctx context.Context, was events.Kept, value []byte) error {
	err := v.put(ctx, was.Name, value, was.Revision)
	if wrongRevision(err) {
		return events.ErrNotKept
	}
	if err != nil {
		return err
	}
	return v.overwrite(ctx, was.Name, was.Revision)
}

// Erase is events.Vault's. A replacement that was cut short leaves two values.
func (v *vault) Erase(ctx context.Context, name string) error {
	for {
		m, err := v.stream.GetMsg(ctx, 1, jetstream.WithGetMsgSubject(v.root+name))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err == nil {
			err = v.overwrite(ctx, name, m.Sequence)
		}
		if err != nil {
			return fmt.Errorf("cannot erase %s: %w", name, err)
		}
	}
}

func (v *vault) overwrite(ctx context.Context, name string, sequence uint64) error {
	err := v.stream.SecureDeleteMsg(ctx, sequence)
	if _, gone := v.stream.GetMsg(ctx, sequence); err != nil && errors.Is(gone, jetstream.ErrMsgNotFound) {
		return nil // Somebody else was faster.
	}
	if err != nil {
		return fmt.Errorf("cannot overwrite %s: %w", name, err)
	}
	return v.confirmed()
}

// All is events.Vault's. Of two values that a replacement left when it was cut
// short the later one counts, and the other is erased.
func (v *vault) All(ctx context.Context) iter.Seq2[events.Kept, error] {
	return func(yield func(events.Kept, error) bool) {
		found := map[string]events.Kept{}
		for next := uint64(1); ; {
			m, err := v.stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(v.root+"*"))
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				break
			}
			if err != nil {
				yield(events.Kept{}, fmt.Errorf("cannot read the vault: %w", err))
				return
			}
			k := v.kept(m)
			if old, twice := found[k.Name]; twice {
				if err := v.overwrite(ctx, old.Name, old.Revision); err != nil {
					yield(events.Kept{}, err)
					return
				}
			}
			found[k.Name], next = k, m.Sequence+1
		}
		for _, k := range found {
			if !yield(k, nil) {
				return
			}
		}
	}
}
