package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Config says where a cluster's logs are in a NATS system.
type Config struct {
	// Prefix is the first token of every subject and, in capitals, the name of
	// the history's stream: two clusters with different prefixes can share a
	// NATS system. "reprise" if empty.
	Prefix string
	// Replicas is how many servers keep a copy: 1 or 3. 1 if zero.
	Replicas int
	// VolatileAge is how long events are kept in the volatile log. An hour if
	// zero.
	VolatileAge time.Duration
	// AckTimeout is how long an append waits for JetStream's word before it
	// counts as uncertain. Ten seconds if zero.
	AckTimeout time.Duration
}

func (c Config) withDefaults() (Config, error) {
	if c.Prefix == "" {
		c.Prefix = "reprise"
	}
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	if c.VolatileAge == 0 {
		c.VolatileAge = time.Hour
	}
	if c.AckTimeout == 0 {
		c.AckTimeout = 10 * time.Second
	}
	if !plain(c.Prefix) {
		return c, fmt.Errorf("prefix %q: use lower case letters, digits and '-'", c.Prefix)
	}
	return c, nil
}

// on returns JetStream as a connection reaches it, and the configuration made whole.
func (c Config) on(nc *nats.Conn) (jetstream.JetStream, Config, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, c, err
	}
	js, err := jetstream.New(nc)
	return js, c, err
}

// History opens the log of the cluster's history, and makes its stream if there
// is none.
func History(ctx context.Context, nc *nats.Conn, cfg Config) (*Log, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return open(ctx, nc, cfg, jetstream.StreamConfig{
		Name:        streamName(cfg.Prefix),
		Description: "The cluster's history. Nothing is ever deleted from it.",
		Subjects:    []string{cfg.Prefix + ".*.*.*.*"},
	})
}

// Volatile opens the log of volatile objects, and makes its stream if there is
// none.
func Volatile(ctx context.Context, nc *nats.Conn, cfg Config) (*Log, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return open(ctx, nc, cfg, jetstream.StreamConfig{
		Name:        streamName(cfg.Prefix) + "_VOLATILE",
		Description: "Leases and Kubernetes Events, which age away.",
		Subjects:    []string{cfg.Prefix + "-volatile.*.*.*.*"},
		MaxAge:      cfg.VolatileAge,
	})
}

func streamName(prefix string) string { return strings.ToUpper(prefix) }

func open(ctx context.Context, nc *nats.Conn, cfg Config, want jetstream.StreamConfig) (*Log, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	want.Storage = jetstream.FileStorage
	want.Retention = jetstream.LimitsPolicy
	want.Discard = jetstream.DiscardNew
	if want.MaxAge > 0 {
		want.Discard = jetstream.DiscardOld
	}
	// Of a stream of one server that is inside this process, blocks are compressed by packer;
	// elsewhere nobody mends what a crash leaves of compressed blocks: see mend.
	alone := cfg.Replicas == 1 && embedded(nc) != nil
	if embedded(nc) != nil && !alone {
		want.Compression = jetstream.S2Compression
	}
	want.Replicas = cfg.Replicas
	want.MaxMsgs, want.MaxBytes, want.MaxMsgsPerSubject, want.MaxConsumers = -1, -1, -1, -1
	want.DenyDelete, want.DenyPurge = true, true
	// See own.
	own := alone && want.MaxAge == 0
	want.AllowAtomicPublish = !own
	if own {
		want.PersistMode = jetstream.AsyncPersistMode
	}

	stream, err := js.Stream(ctx, want.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		stream, err = js.CreateStream(ctx, want)
	case err == nil:
		stream, err = adopt(ctx, js, stream, want)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open stream %s: %w", want.Name, err)
	}
	l := &Log{
		nc: nc, js: js, stream: stream, name: want.Name, forgets: want.MaxAge > 0, patient: cfg.AckTimeout,
		root: strings.TrimSuffix(want.Subjects[0], ".*.*.*.*"),
	}
	switch s, info := l.embedded(), stream.CachedInfo(); {
	case info.Config.PersistMode != jetstream.AsyncPersistMode:
		// Few events were single messages once, and redone after a crash.
		if s != nil {
			err = l.whole(ctx, info.State.LastSeq)
		}
		if err == nil && alone {
			l.packer, err = s.openPacker(l.name)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot open stream %s: %w", want.Name, err)
		}
	case s == nil:
		l.foreign = true
	default:
		if l.own, err = s.openOwn(ctx, l); err != nil {
			return nil, fmt.Errorf("cannot open stream %s: %w", want.Name, err)
		}
	}
	return l, nil
}

// adopt checks a stream that is there already: that it is what a log must be,
// and that nothing of it is missing. What may change in a log's life is brought
// up to date.
func adopt(ctx context.Context, js jetstream.JetStream, stream jetstream.Stream, want jetstream.StreamConfig) (jetstream.Stream, error) {
	info, err := stream.Info(ctx)
	if err != nil {
		return nil, err
	}
	have, state := info.Config, info.State
	for _, c := range []struct {
		what       string
		have, want any
		same       bool
	}{
		{"subjects", have.Subjects, want.Subjects, slices.Equal(have.Subjects, want.Subjects)},
		{"storage", have.Storage, want.Storage, have.Storage == want.Storage},
		{"retention", have.Retention, want.Retention, have.Retention == want.Retention},
		{"most messages", have.MaxMsgs, want.MaxMsgs, have.MaxMsgs == want.MaxMsgs},
		{"most bytes", have.MaxBytes, want.MaxBytes, have.MaxBytes == want.MaxBytes},
		{"limit of age", have.MaxAge, want.MaxAge, (have.MaxAge > 0) == (want.MaxAge > 0)},
		{"most messages a subject", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject, have.MaxMsgsPerSubject == want.MaxMsgsPerSubject},
		{"denial of deletion", have.DenyDelete, want.DenyDelete, have.DenyDelete == want.DenyDelete},
		{"denial of purge", have.DenyPurge, want.DenyPurge, have.DenyPurge == want.DenyPurge},
	} {
		if !c.same {
			return nil, fmt.Errorf("it was not made by this program: its %s is %v and must be %v; use another prefix or data directory", c.what, c.have, c.want)
		}
	}
	if want.MaxAge == 0 && (state.Msgs != state.LastSeq || state.Msgs > 0 && state.FirstSeq != 1) {
		return nil, fmt.Errorf("events are missing: it goes from %d to %d and holds %d; restore the data directory from a copy", state.FirstSeq, state.LastSeq, state.Msgs)
	}
	// A stream is made to be kept by one process alone, or it is not, once and for all.
	if have.PersistMode == jetstream.AsyncPersistMode {
		want.AllowAtomicPublish, want.Compression = false, jetstream.NoCompression
	} else {
		want.AllowAtomicPublish = true
	}
	if have.Replicas == want.Replicas && have.MaxAge == want.MaxAge && have.AllowAtomicPublish == want.AllowAtomicPublish && have.Compression == want.Compression {
		return stream, nil
	}
	// JetStream heeds another compression from its next start on.
	have.Replicas, have.MaxAge, have.AllowAtomicPublish, have.Compression = want.Replicas, want.MaxAge, want.AllowAtomicPublish, want.Compression
	have.Duplicates = want.Duplicates // the server's own choice, which may not exceed MaxAge
	return js.UpdateStream(ctx, have)
}
