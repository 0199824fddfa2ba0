package events

import (
	"context"
	"errors"
	"iter"
	"time"
)

// DeliveryPosition is how far a delivery has come: of the events up to Read all
// are done but those in Open, which are in order.
type DeliveryPosition struct {
	Read uint64
	Open []uint64 `json:",omitempty"`
}

// DeadLetter is an event that could not be delivered, and why.
type DeadLetter struct {
	Event Event
	// Delivery is the name of the delivery that gave up, and Target where it was
	// to deliver to.
	Delivery, Target string
	// Reason says what was wrong with the last of the attempts, of which the
	// first was at Since.
	Reason   string
	Attempts int
	Since    time.Time
	// At is when it was given up.
	At time.Time
}

// Deliveries keeps the positions of deliveries and what they gave up.
type Deliveries interface {
	// Claim returns where the delivery of a name stands, and takes it over from
	// whoever else delivers under the name, whose next Save fails. It says false
	// if there was none of the name; it is at the position given then.
	Claim(ctx context.Context, name string, begin DeliveryPosition) (DeliveryPosition, bool, error)
	// Save keeps the position of a delivery that was claimed. It fails with
	// ErrClaimed if somebody else has claimed it since.
	Save(ctx context.Context, name string, at DeliveryPosition) error
	// Bury keeps a dead letter. The same may be buried twice.
	Bury(ctx context.Context, d DeadLetter) error
	// Buried yields the dead letters of a delivery, or of all for the name "", in
	// the order in which they were buried. An error ends it. Those that it has yielded
	// may be dropped meanwhile.
	Buried(ctx context.Context, name string) iter.Seq2[DeadLetter, error]
	// Drop forgets the dead letters of a delivery that are about the event at the
	// sequence. It fails with ErrNotFound if there are none.
	Drop(ctx context.Context, name string, sequence uint64) error
}

// ErrClaimed says that somebody else delivers under the name.
var ErrClaimed = errors.New("another process delivers under this name now")
