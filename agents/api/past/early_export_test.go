package past

import (
	"go.etcd.io/etcd/api/v3/mvccpb"
	"k8s.io/apiserver/pkg/registry/generic"

	"github.com/reprise-run/reprise/events"
)

// Early decodes objects early.
type Early struct{ getter }

// NewEarly decodes with upstream's options.
func NewEarly(upstream generic.RESTOptionsGetter) Early {
	return Early{getter{upstream, newEarly()}}
}

// Decode decodes objects of a resource; what it returns forgets them.
func (e Early) Decode(scope events.Ref, values ...[]byte) (forget func()) {
	var kvs []*mvccpb.KeyValue
	for _, v := range values {
		kvs = append(kvs, &mvccpb.KeyValue{Value: v})
	}
	return e.early.decode(scope, kvs).forget
}

// Waiting is how many decoded objects nobody has taken.
func (e Early) Waiting() (n int) {
	e.early.objects.Range(func(any, any) bool { n++; return true })
	return n
}
