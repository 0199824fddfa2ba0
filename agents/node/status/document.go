package status

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
	"sync"

	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections/write"
)

// document is a pod's status as a Go type and in canonical JSON. Most members are the
// same in two statuses that follow each other, and share their memory: nothing of those
// is encoded or compared.
type document struct {
	status *v1.PodStatus
	exists bool     // before there is a status it has no JSON
	values [][]byte // of the members, nil for one that is not there

	// What the next status is written with.
	delta v1.PodStatus
	room  []byte
	next  [][]byte
	ops   []events.Op
}

// documents are those that nobody uses.
var documents = sync.Pool{New: func() any { return new(document) }}

// newDocument returns that of a status whose canonical JSON is raw, nil for none. Who has
// it lets go of it with done.
func newDocument(st *v1.PodStatus, raw []byte) *document {
	d := documents.Get().(*document)
	d.status, d.exists = st, raw != nil
	d.values = spread(d.values, raw)
	return d
}

// mostRoom is how large a document may be that is used again.
const mostRoom = 64 << 10

// done says that the document is not used any more. It keeps nothing of what it was of.
func (d *document) done() {
	if cap(d.room) > mostRoom {
		return
	}
	clear(d.values)
	clear(d.next)
	clear(d.ops[:cap(d.ops)])
	*d = document{values: d.values, room: d.room[:0], next: d.next, ops: d.ops}
	documents.Put(d)
}

// become makes the document that of another status, and returns the patch of a pod that
// says so, nil if nothing changes.
func (d *document) become(after *v1.PodStatus) ([]byte, error) {
	before := d.status
	d.status = after
	if !d.exists {
		raw, err := d.write(after)
		if err != nil {
			return nil, err
		}
		d.exists, d.values = true, spread(d.values, raw)
		return events.AppendPatch(nil, []events.Op{{Op: "add", Path: "/status", Value: raw}}), nil
	}
	d.delta = v1.PodStatus{}
	was, is, only := reflect.ValueOf(before).Elem(), reflect.ValueOf(after).Elem(), reflect.ValueOf(&d.delta).Elem()
	for _, m := range members() {
		if value := is.Field(m.index); !shared(was.Field(m.index), value) {
			only.Field(m.index).Set(value)
		}
	}
	raw, err := d.write(&d.delta)
	if err != nil {
		return nil, err
	}
	d.next, d.ops = spread(d.next, raw), d.ops[:0]
	for i, m := range members() {
		if shared(was.Field(m.index), is.Field(m.index)) {
			continue
		}
		d.ops = events.AppendDiff(d.ops, "/status/"+m.name, d.values[i], d.next[i])
		d.values[i] = d.next[i]
	}
	if len(d.ops) == 0 {
		return nil, nil
	}
	return events.AppendPatch(nil, d.ops), nil
}

// write returns the canonical JSON of a status, which stays as it is while others follow.
func (d *document) write(st *v1.PodStatus) (raw []byte, err error) {
	from := len(d.room)
	d.room, err = write.Canonical(d.room, st)
	return d.room[from:], err
}

// spread returns the values of the members of a status in canonical JSON, in the order of
// members, in the memory of others.
func spread(out [][]byte, raw []byte) [][]byte {
	all := members()
	out = slices.Grow(out[:0], len(all))[:len(all)]
	clear(out)
	i := 0
	for name, value := range events.Members(raw) {
		name = name[1 : len(name)-1]
		for i < len(all) && all[i].name < string(name) {
			i++
		}
		if i < len(all) && all[i].name == string(name) {
			out[i] = value
		}
	}
	return out
}

// equal says whether two statuses say the same, perhaps in another way.
func equal(a, b *v1.PodStatus) bool {
	was, is := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	for _, m := range members() {
		before, after := was.Field(m.index), is.Field(m.index)
		if shared(before, after) {
			continue
		}
		// Mostly nothing is new, which is seen sooner than that it is said in another way.
		x, y := before.Interface(), after.Interface()
		if !reflect.DeepEqual(x, y) && !apiequality.Semantic.DeepEqual(x, y) {
			return false
		}
	}
	return true
}

// member is a field of a status by its name in JSON.
type member struct {
	name  string
	index int
}

// members are the fields of a status in the order of their names. All are left out of
// JSON if they are empty.
var members = sync.OnceValue(func() (out []member) {
	for field := range reflect.TypeFor[v1.PodStatus]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		out = append(out, member{name, field.Index[0]})
	}
	slices.SortFunc(out, func(a, b member) int { return cmp.Compare(a.name, b.name) })
	return out
})

// shared says that two values are equal without looking at what they lead to.
func shared(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Slice:
		return a.Len() == b.Len() && a.UnsafePointer() == b.UnsafePointer()
	case reflect.Map:
		return a.UnsafePointer() == b.UnsafePointer()
	}
	return a.Equal(b)
}
