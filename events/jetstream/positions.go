package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// keepEvery is how long the kept positions may lag behind the subscribers': how
// much is sent again after a crash of the server.
const keepEvery = time.Second

// place is how far a subscriber has come.
type place struct {
	Done uint64
	Seen time.Time
}

// positions keeps how far all subscribers have come, in one record.
//
// JetStream can do that for each consumer, but then the embedded server, which
// syncs whatever it writes, writes and syncs a file ten times a second for each
// consumer that reads, and a hundred of them take the disk from the log. So the
// consumers are in memory, and are made anew where they were when the server
// starts.
type positions struct {
	bucket jetstream.KeyValue
	stream jetstream.Stream

	mu   sync.Mutex
	kept map[string]place
}

const placesKey = "places"

func openPositions(ctx context.Context, js jetstream.JetStream, cfg Config) (*positions, error) {
	p := &positions{kept: map[string]place{}}
	var err error
	p.bucket, err = js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: cfg.Prefix + "-positions", Description: "How far the subscribers have come.",
		Storage: jetstream.FileStorage, Replicas: cfg.Replicas, History: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot open the positions of the subscribers: %w", err)
	}
	if p.stream, err = js.Stream(ctx, streamName(cfg.Prefix)); err != nil {
		return nil, fmt.Errorf("cannot open the history for its subscribers: %w", err)
	}
	entry, err := p.bucket.Get(ctx, placesKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return p, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the positions of the subscribers: %w", err)
	}
	if err := json.Unmarshal(entry.Value(), &p.kept); err != nil {
		return nil, fmt.Errorf("the positions of the subscribers cannot be read: %w", err)
	}
	return p, nil
}

// of is how far a subscriber had come when that was last kept.
func (p *positions) of(name string) place {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kept[name]
}

// forget drops the position of a subscriber that is no more.
func (p *positions) forget(ctx context.Context, name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.kept[name]; !ok {
		return nil
	}
	delete(p.kept, name)
	return p.write(ctx)
}

// keep writes down how far the subscribers are, if any has moved.
func (p *positions) keep(ctx context.Context, admitted map[string]bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := maps.Clone(p.kept)
	all := p.stream.ListConsumers(ctx)
	for info := range all.Info() {
		if at := placeOf(info); admitted[info.Name] && at.Done > now[info.Name].Done {
			now[info.Name] = at
		}
	}
	if err := all.Err(); err != nil {
		return fmt.Errorf("cannot ask how far the subscribers are: %w", err)
	}
	if maps.EqualFunc(now, p.kept, func(a, b place) bool { return a.Done == b.Done }) {
		return nil
	}
	p.kept = now
	return p.write(ctx)
}

func (p *positions) write(ctx context.Context) error {
	raw, err := json.Marshal(p.kept)
	if err != nil {
		return err
	}
	if _, err := p.bucket.Put(ctx, placesKey, raw); err != nil {
		return fmt.Errorf("cannot keep the positions of the subscribers: %w", err)
	}
	return nil
}

func placeOf(info *jetstream.ConsumerInfo) place {
	at := place{Done: info.AckFloor.Stream}
	for _, t := range []*time.Time{info.AckFloor.Last, info.Delivered.Last} {
		if t != nil && t.After(at.Seen) {
			at.Seen = *t
		}
	}
	return at
}
