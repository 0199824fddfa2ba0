package past

import (
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/mvccpb"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"

	"github.com/reprise-run/reprise/agents/api/quick"
	"github.com/reprise-run/reprise/events"
)

// early decodes the objects of lists before upstream asks for them, which it does
// for one after the other: on all processors, and with a quicker reader of JSON.
// What upstream makes of an object when it has read it (defaults, conversion) is
// made by upstream here too. An object that cannot be decoded so is left to upstream.
type early struct {
	mu       sync.Mutex
	decoders map[schema.GroupResource]*decoder
	// objects are those decoded, by where their bytes are, until upstream takes them.
	objects sync.Map
}

func newEarly() *early { return &early{decoders: map[schema.GroupResource]*decoder{}} }

// decoder is upstream's codec of a resource, which knows what is decoded already.
type decoder struct {
	apiruntime.Codec
	early *early
	quick apiruntime.Decoder
	blank reflect.Type
}

// Decode implements runtime.Decoder.
func (d *decoder) Decode(data []byte, defaults *schema.GroupVersionKind, into apiruntime.Object) (apiruntime.Object, *schema.GroupVersionKind, error) {
	if len(data) > 0 && reflect.TypeOf(into) == d.blank {
		if o, ok := d.early.objects.LoadAndDelete(&data[0]); ok {
			return o.(apiruntime.Object), nil, nil
		}
	}
	return d.Codec.Decode(data, defaults, into)
}

// decoded are objects of a list that were decoded early.
type decoded struct {
	early *early
	at    []*byte
}

// forget drops what upstream has not taken of them.
func (d decoded) forget() {
	for _, at := range d.at {
		d.early.objects.Delete(at)
	}
}

// decode decodes the objects of a resource as far as it can.
func (e *early) decode(scope events.Ref, kvs []*mvccpb.KeyValue) (done decoded) {
	e.mu.Lock()
	d := e.decoders[schema.GroupResource{Group: scope.Group, Resource: scope.Resource}]
	e.mu.Unlock()
	if d == nil {
		return done
	}
	var (
		next    atomic.Int64
		workers sync.WaitGroup
		good    = make([]bool, len(kvs))
	)
	for range min(runtime.GOMAXPROCS(0), (len(kvs)+15)/16) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(kvs)); i = next.Add(1) - 1 {
				into := reflect.New(d.blank.Elem()).Interface().(apiruntime.Object)
				if o, _, err := d.quick.Decode(kvs[i].Value, nil, into); err == nil && o == into {
					e.objects.Store(&kvs[i].Value[0], o)
					good[i] = true
				}
			}
		})
	}
	workers.Wait()
	done.early = e
	for i, kv := range kvs {
		if good[i] {
			done.at = append(done.at, &kv.Value[0])
		}
	}
	return done
}

// getter hands upstream's codecs out as decoders.
type getter struct {
	generic.RESTOptionsGetter
	early *early
}

// GetRESTOptions implements generic.RESTOptionsGetter.
func (g getter) GetRESTOptions(resource schema.GroupResource, example apiruntime.Object) (generic.RESTOptions, error) {
	o, err := g.RESTOptionsGetter.GetRESTOptions(resource, example)
	if err != nil || example == nil {
		return o, err
	}
	reader, err := quick.NewBriefDecoder(o.StorageConfig.EncodeVersioner, example)
	if err != nil {
		return o, nil // Nothing of its kind is in upstream's scheme: upstream decodes it.
	}
	d := &decoder{Codec: o.StorageConfig.Codec, early: g.early, quick: reader, blank: reflect.TypeOf(example)}
	g.early.mu.Lock()
	defer g.early.mu.Unlock()
	g.early.decoders[resource] = d
	o.StorageConfig.Codec = d
	return o, nil
}
