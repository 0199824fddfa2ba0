package feed

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	quick "github.com/go-json-experiment/json"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// message is one numbered step of a feed. Messages with More belong together with
// the next: the node shows them in one step.
type message struct {
	Epoch    string `json:"epoch"`             // which subscription it belongs to
	Number   uint64 `json:"number"`            // counted from 1 within the epoch
	Sequence uint64 `json:"sequence"`          // the node then knows all up to here
	Reset    bool   `json:"reset,omitempty"`   // what was known before is void
	More     bool   `json:"more,omitempty"`    // the next message belongs to it
	Puts     []put  `json:"puts,omitempty"`    // objects as they now are
	Removes  []ref  `json:"removes,omitempty"` // objects to forget
}

type ref struct {
	Group     string `json:"group,omitempty"`
	Resource  string `json:"resource"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// put is an Entry. Raw is kept from json's hands, for its bytes must not change: it
// follows the message, and Size is its length.
type put struct {
	Ref      ref    `json:"ref"`
	UID      string `json:"uid"`
	Created  uint64 `json:"created"`
	Sequence uint64 `json:"sequence"`
	Size     int    `json:"size"`
	Raw      []byte `json:"-"`
}

func (p put) entry() *projections.Entry {
	return projections.NewEntry(events.Ref(p.Ref), p.UID, p.Created, p.Sequence, p.Raw)
}

// call is what a node asks: to be fed from the beginning (Sequence: at least as of
// there), or how far it has been told (once all up to Sequence is folded).
type call struct {
	Epoch    string `json:"epoch"`
	Sequence uint64 `json:"sequence,omitempty"`
	Network  bool   `json:"network,omitempty"`
	// Alive is for who is to hear that the node is there, besides (package presence).
	Alive bool `json:"alive,omitempty"`
}

// answer to a call. For the beginning, Server says whom to ask from then on.
type answer struct {
	Server   string `json:"server,omitempty"`
	Unknown  bool   `json:"unknown,omitempty"` // the epoch is not, or no longer, fed
	Number   uint64 `json:"number,omitempty"`
	Sequence uint64 `json:"sequence,omitempty"`
	Error    string `json:"error,omitempty"`
	Heard    bool   `json:"heard,omitempty"` // it is known that the node is there
	Renew    bool   `json:"renew,omitempty"` // and it is to renew its Lease
}

// largest is about how many bytes of objects go in one message.
const largest = 512 << 10

// split makes messages of a delta, none too large for NATS.
func split(d delta, sequence uint64, reset bool) []message {
	var out []message
	m := message{Sequence: sequence, Reset: reset}
	size := 0
	for _, e := range d.puts {
		if size > 0 && size+len(e.Raw) > largest {
			m.More = true
			out = append(out, m)
			m, size = message{Sequence: sequence}, 0
		}
		m.Puts = append(m.Puts, put{Ref: ref(e.Ref), UID: e.UID, Created: e.Created, Sequence: e.Sequence, Size: len(e.Raw), Raw: e.Raw})
		size += len(e.Raw)
	}
	for _, r := range d.removes {
		m.Removes = append(m.Removes, ref(r))
	}
	return append(out, m)
}

// appendTo appends the message as it is sent: a line of JSON, and then the objects one
// after the other.
func (m message) appendTo(b []byte) []byte {
	line := encode(m)
	size := len(line) + 1
	for _, p := range m.Puts {
		size += len(p.Raw)
	}
	b = append(append(slices.Grow(b, size), line...), '\n')
	for _, p := range m.Puts {
		b = append(b, p.Raw...)
	}
	return b
}

// parse reads what appendTo wrote. An object stays in data if it is most of it: else it
// would keep the others in memory for as long as it lives.
func parse(data []byte) (m message, err error) {
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	if err := quick.Unmarshal(line, &m); err != nil {
		return m, err
	}
	for i := range m.Puts {
		p := &m.Puts[i]
		if p.Size <= 0 || p.Size > len(rest) { // a server of another version says no size
			return m, fmt.Errorf("%s should have %d bytes, and %d are left", events.Ref(p.Ref), p.Size, len(rest))
		}
		p.Raw, rest = rest[:p.Size:p.Size], rest[p.Size:]
		if p.Size < len(data)/4*3 {
			p.Raw = bytes.Clone(p.Raw)
		}
	}
	if len(rest) > 0 {
		return m, fmt.Errorf("%d bytes are nobody's", len(rest))
	}
	return m, nil
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("cannot encode %T: %v", v, err))
	}
	return b
}
