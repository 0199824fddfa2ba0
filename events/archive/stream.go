package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/reprise-run/reprise/events"
)

// Objects yields the snapshot, which comes before the events: nothing for an
// archive that begins with the log. An error ends it. Each object's bytes are the
// caller's.
func (a *Reader) Objects() iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		for a.ahead == nil {
			b, err := a.Next()
			if err != nil {
				yield(Object{}, err)
				return
			}
			if len(b.Events) > 0 {
				a.ahead = b.Events
				return
			}
			for _, o := range b.Objects {
				o.Raw = bytes.Clone(o.Raw)
				if !yield(o, nil) {
					return
				}
			}
		}
	}
}

// maxDecision is the most bytes of a decision, of which a part is held until its end
// is read. What the log takes at once is far less.
const maxDecision = 256 << 20

// Batches yields the events, after the snapshot, in runs that end at the end of a
// decision. An error other than the end of the archive ends it. The slices and
// their events' bytes are the caller's.
func (a *Reader) Batches() iter.Seq2[[]events.Event, error] {
	return func(yield func([]events.Event, error) bool) {
		var pending []events.Event
		held := 0
		for {
			found := a.ahead
			a.ahead = nil
			for found == nil {
				b, err := a.Next()
				if errors.Is(err, io.EOF) {
					return
				}
				if err != nil {
					yield(nil, err)
					return
				}
				found = b.Events
			}
			whole := 0
			for i := range found {
				e := found[i]
				e.Data, e.Note, e.Asked = bytes.Clone(e.Data), bytes.Clone(e.Note), bytes.Clone(e.Asked)
				held += len(e.Data) + len(e.Note) + len(e.Asked)
				if pending = append(pending, e); !e.More {
					whole, held = len(pending), 0
				}
			}
			if held > maxDecision {
				a.failure = a.damaged(head{}, fmt.Errorf("a decision in it has more than %d bytes", maxDecision))
				yield(nil, a.failure)
				return
			}
			if whole == 0 {
				continue
			}
			if !yield(pending[:whole:whole], nil) {
				return
			}
			pending = append([]events.Event(nil), pending[whole:]...)
		}
	}
}

// Check reads an archive to its end and returns what it says of itself, if all is
// as it was written. each, which may be nil, is called after each block.
func Check(r io.Reader, each func(*Reader) error) (Header, Footer, error) {
	a, err := NewReader(r)
	if err != nil {
		return Header{}, Footer{}, err
	}
	defer a.Close()
	for {
		_, err := a.Next()
		if errors.Is(err, io.EOF) {
			return a.Header(), a.Footer(), nil
		}
		if err == nil && each != nil {
			err = each(a)
		}
		if err != nil {
			return a.Header(), Footer{}, err
		}
	}
}
