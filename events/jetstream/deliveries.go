package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/reprise-run/reprise/events"
)

// The headers of a dead letter beside those of its event.
const (
	hTarget   = "Reprise-Target"
	hReason   = "Reprise-Reason"
	hAttempts = "Reprise-Attempts"
	hSince    = "Reprise-Since"
	hAt       = "Reprise-At"
)

// Deliveries are events.Deliveries: positions are in a bucket, dead letters in a
// stream of their own, each on <prefix>-dead.<delivery>.<sequence of the event>.
type Deliveries struct {
	js        jetstream.JetStream
	prefix    string
	positions jetstream.KeyValue
	letters   jetstream.Stream

	mu        sync.Mutex
	revisions map[string]uint64 // of the positions that this process has claimed
}

var _ events.Deliveries = (*Deliveries)(nil)

func positionsBucket(prefix string) string { return prefix + "-deliveries" }
func lettersStream(prefix string) string   { return streamName(prefix) + "_DEAD_LETTERS" }

// MakeDeliveries makes what deliveries keep their things in, if it is not there.
func MakeDeliveries(ctx context.Context, nc *nats.Conn, cfg Config) error {
	js, cfg, err := cfg.on(nc)
	if err != nil {
		return err
	}
	_, err = js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: positionsBucket(cfg.Prefix), Description: "How far deliveries of events have come.",
		Storage: jetstream.FileStorage, Replicas: cfg.Replicas, History: 1,
	})
	if err != nil {
		return fmt.Errorf("cannot make the positions of deliveries: %w", err)
	}
	_, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: lettersStream(cfg.Prefix), Description: "Events that could not be delivered, until somebody retries or drops them.",
		Subjects: []string{cfg.Prefix + "-dead.*.*"}, Storage: jetstream.FileStorage, Replicas: cfg.Replicas,
		Compression: jetstream.S2Compression,
	})
	if err != nil {
		return fmt.Errorf("cannot make the stream of dead letters: %w", err)
	}
	return nil
}

// DeliveryPermissions are the subjects that whoever delivers events may publish
// on. Answers come to the inbox of the connection.
func DeliveryPermissions(prefix string) (publish []string) {
	bucket, letters := "KV_"+positionsBucket(prefix), lettersStream(prefix)
	return []string{
		"$KV." + positionsBucket(prefix) + ".*", prefix + "-dead.*.*",
		"$JS.API.STREAM.INFO." + bucket, "$JS.API.STREAM.INFO." + letters,
		"$JS.API.DIRECT.GET." + bucket + ".>", "$JS.API.STREAM.MSG.GET." + bucket,
		"$JS.API.STREAM.MSG.GET." + letters, "$JS.API.STREAM.MSG.DELETE." + letters,
	}
}

// OpenDeliveries opens what MakeDeliveries has made.
func OpenDeliveries(ctx context.Context, nc *nats.Conn, cfg Config) (*Deliveries, error) {
	js, cfg, err := cfg.on(nc)
	if err != nil {
		return nil, err
	}
	d := &Deliveries{js: js, prefix: cfg.Prefix, revisions: map[string]uint64{}}
	if d.positions, err = js.KeyValue(ctx, positionsBucket(cfg.Prefix)); err != nil {
		return nil, fmt.Errorf("cannot open the positions of deliveries: %w", err)
	}
	if d.letters, err = js.Stream(ctx, lettersStream(cfg.Prefix)); err != nil {
		return nil, fmt.Errorf("cannot open the dead letters: %w", err)
	}
	return d, nil
}

// Claim is events.Deliveries's.
func (d *Deliveries) Claim(ctx context.Context, name string, begin events.DeliveryPosition) (at events.DeliveryPosition, known bool, err error) {
	if err := checkDelivery(name); err != nil {
		return at, false, err
	}
	at = begin
	var revision uint64
	entry, err := d.positions.Get(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
	case err != nil:
		return at, false, fmt.Errorf("cannot tell where delivery %s stands: %w", name, err)
	default:
		at, revision, known = events.DeliveryPosition{}, entry.Revision(), true
		if err := json.Unmarshal(entry.Value(), &at); err != nil {
			return at, false, fmt.Errorf("the position of delivery %s cannot be read: %w", name, err)
		}
	}
	d.mu.Lock()
	d.revisions[name] = revision
	d.mu.Unlock()
	// Whoever saved last now finds another revision.
	return at, known, d.Save(ctx, name, at)
}

func checkDelivery(name string) error {
	if name == "" || len(name) > 63 || !plain(name) {
		return fmt.Errorf("%q cannot name a delivery: use lower case letters, digits and '-', 63 at most", name)
	}
	return nil
}

// Save is events.Deliveries's.
func (d *Deliveries) Save(ctx context.Context, name string, at events.DeliveryPosition) error {
	raw, err := json.Marshal(at)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	revision, err := d.positions.Update(ctx, name, raw, d.revisions[name])
	if wrongRevision(err) {
		// A save whose answer was lost has moved the revision on.
		if entry, getErr := d.positions.Get(ctx, name); getErr == nil && string(entry.Value()) == string(raw) {
			revision, err = entry.Revision(), nil
		} else {
			return fmt.Errorf("delivery %s: %w", name, events.ErrClaimed)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot keep the position of delivery %s: %w", name, err)
	}
	d.revisions[name] = revision
	return nil
}

// letter is where a dead letter is kept.
func (d *Deliveries) letter(delivery string, sequence uint64) string {
	return d.prefix + "-dead." + delivery + "." + strconv.FormatUint(sequence, 10)
}

// Bury is events.Deliveries's.
func (d *Deliveries) Bury(ctx context.Context, l events.DeadLetter) error {
	if err := checkDelivery(l.Delivery); err != nil {
		return err
	}
	h, body := Encode(&l.Event)
	m := &nats.Msg{Subject: d.letter(l.Delivery, l.Event.Sequence), Header: h, Data: body}
	for name, value := range map[string]string{
		hTarget: l.Target, hReason: l.Reason, hAttempts: strconv.Itoa(l.Attempts), hSince: instant(l.Since), hAt: instant(l.At),
	} {
		h[name] = []string{escape(value)}
	}
	if _, err := d.js.PublishMsg(ctx, m); err != nil {
		return fmt.Errorf("cannot keep event %d as a dead letter: %w", l.Event.Sequence, err)
	}
	return nil
}

// Buried is events.Deliveries's.
func (d *Deliveries) Buried(ctx context.Context, name string) iter.Seq2[events.DeadLetter, error] {
	subject := d.prefix + "-dead." + cmp.Or(name, "*") + ".*"
	return func(yield func(events.DeadLetter, error) bool) {
		for place := uint64(1); ; place++ {
			m, err := d.letters.GetMsg(ctx, place, jetstream.WithGetMsgSubject(subject))
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				return
			}
			var l events.DeadLetter
			if err != nil {
				err = fmt.Errorf("cannot read the dead letters: %w", err)
			} else {
				l, err = d.decodeLetter(m)
			}
			if !yield(l, err) || err != nil {
				return
			}
			place = m.Sequence
		}
	}
}

func (d *Deliveries) decodeLetter(m *jetstream.RawStreamMsg) (events.DeadLetter, error) {
	delivery, _, _ := strings.Cut(strings.TrimPrefix(m.Subject, d.prefix+"-dead."), ".")
	h := decoder{header: fieldsOf(m.Header)}
	l := events.DeadLetter{
		Delivery: delivery, Target: h.text(fTarget), Reason: h.text(fReason),
		Attempts: int(h.number(fAttempts)), Since: h.instant(fSince), At: h.instant(fAt),
	}
	var err error
	if l.Event, err = Decode(m.Header, m.Data, h.number(fID)); err != nil {
		return l, fmt.Errorf("dead letter %d: %w", m.Sequence, err)
	}
	l.Event.Sequence = h.number(fID)
	return l, nil
}

// Drop is events.Deliveries's.
func (d *Deliveries) Drop(ctx context.Context, name string, sequence uint64) error {
	for dropped := 0; ; dropped++ {
		m, err := d.letters.GetMsg(ctx, 1, jetstream.WithGetMsgSubject(d.letter(name, sequence)))
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound) && dropped > 0:
			return nil
		case errors.Is(err, jetstream.ErrMsgNotFound):
			return fmt.Errorf("delivery %s has no dead letter of event %d: %w", name, sequence, events.ErrNotFound)
		case err == nil:
			err = d.letters.DeleteMsg(ctx, m.Sequence)
		}
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return fmt.Errorf("cannot drop the dead letter of event %d: %w", sequence, err)
		}
	}
}
