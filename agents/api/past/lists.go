package past

import (
	"bytes"
	"io"
	"net/http"
	"runtime"
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/handlers"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/core"
	podstorage "k8s.io/kubernetes/pkg/registry/core/pod/storage"

	"github.com/reprise-run/reprise/projections/write"
)

// podLists answers requests for pods, of which a cluster has many, as whole objects in
// JSON. The answers are upstream's, from its own handler and storage; but where upstream
// encodes one pod after the other, here all processors do. Everything else is left to the
// chain.
type podLists struct {
	chain      http.Handler
	serializer apiruntime.NegotiatedSerializer
	scope      *handlers.RequestScope
	handlers   map[string]http.Handler // by what upstream's metrics call the scope
	destroy    func()
}

func newPodLists(chain http.Handler, options generic.RESTOptionsGetter) (*podLists, error) {
	stored, err := podstorage.NewStorage(options, nil, nil, nil, nil)
	if err != nil {
		return nil, err
	}
	group := genericapiserver.NewDefaultAPIGroupInfo(v1.GroupName, legacyscheme.Scheme, legacyscheme.ParameterCodec, legacyscheme.Codecs)
	l := &podLists{chain: chain, serializer: podSerializer{group.NegotiatedSerializer}, destroy: stored.Pod.Destroy, handlers: map[string]http.Handler{}}
	l.scope = &handlers.RequestScope{
		Namer:          handlers.ContextBasedNaming{Namer: apiruntime.Namer(meta.NewAccessor())},
		Serializer:     l.serializer,
		ParameterCodec: group.ParameterCodec,
		Creater:        group.Scheme, Convertor: group.Scheme, Defaulter: group.Scheme, Typer: group.Scheme,
		UnsafeConvertor:  apiruntime.UnsafeObjectConvertor(group.Scheme),
		TableConvertor:   stored.Pod,
		Resource:         v1.SchemeGroupVersion.WithResource("pods"),
		Kind:             v1.SchemeGroupVersion.WithKind("Pod"),
		HubGroupVersion:  core.SchemeGroupVersion,
		MetaGroupVersion: metav1.SchemeGroupVersion,
	}
	list := handlers.ListResource(stored.Pod, stored.Pod, l.scope, false, 0)
	for _, scope := range []string{"cluster", "namespace"} {
		l.handlers[scope] = metrics.InstrumentHandlerFunc("LIST", "", "v1", "pods", "", scope, metrics.APIServerComponent, false, "", list)
	}
	return l, nil
}

// ServeHTTP implements http.Handler.
func (l *podLists) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info, ok := request.RequestInfoFrom(r.Context())
	switch {
	case !ok || r.Method != http.MethodGet || !l.concerned(info) || !l.plain(r):
		l.chain.ServeHTTP(w, r)
	case info.Namespace == "":
		l.handlers["cluster"].ServeHTTP(w, r)
	default:
		l.handlers["namespace"].ServeHTTP(w, r)
	}
}

// concerned says whether a request is for a list of pods.
func (*podLists) concerned(i *request.RequestInfo) bool {
	return i.IsResourceRequest && i.Verb == "list" && i.APIPrefix == "api" && i.APIGroup == "" && i.APIVersion == "v1" &&
		i.Resource == "pods" && i.Subresource == "" && i.Name == ""
}

// plain says whether the answer is to be in JSON, of whole objects and not for people.
func (l *podLists) plain(r *http.Request) bool {
	how, form, err := negotiation.NegotiateOutputMediaType(r, l.serializer, l.scope)
	return err == nil && how.Convert == nil && form.MediaType == apiruntime.ContentTypeJSON && form.Serializer != form.PrettySerializer
}

// podSerializer is upstream's, but for lists of pods. It is to be used for JSON without
// indentation.
type podSerializer struct {
	apiruntime.NegotiatedSerializer
}

// EncoderForVersion implements runtime.NegotiatedSerializer.
func (s podSerializer) EncoderForVersion(e apiruntime.Encoder, v apiruntime.GroupVersioner) apiruntime.Encoder {
	return podEncoder{s.NegotiatedSerializer.EncoderForVersion(e, v)}
}

// podEncoder writes lists of pods as upstream's encoder does, on all processors.
type podEncoder struct{ apiruntime.Encoder }

// Encode implements runtime.Encoder.
func (e podEncoder) Encode(o apiruntime.Object, w io.Writer) error {
	pods, is := o.(*core.PodList)
	if !is || len(pods.Items) == 0 {
		return e.Encoder.Encode(o, w)
	}
	var frame bytes.Buffer // what is around the pods
	if err := e.Encoder.Encode(&core.PodList{ListMeta: pods.ListMeta, Items: []core.Pod{}}, &frame); err != nil {
		return err
	}
	const behind = "]}\n"
	before, ok := bytes.CutSuffix(frame.Bytes(), []byte(behind))
	if !ok || !bytes.HasSuffix(before, []byte(`"items":[`)) {
		return e.Encoder.Encode(o, w)
	}
	// By a first write of one byte upstream knows that many follow, which it compresses if
	// they come to a certain length.
	if _, err := w.Write(before[:1]); err != nil {
		return err
	}
	if _, err := w.Write(before[1:]); err != nil {
		return err
	}
	if err := writePods(w, pods.Items); err != nil {
		return err
	}
	_, err := io.WriteString(w, behind)
	return err
}

// encodedAtATime is how many pods are written at a time.
const encodedAtATime = 64

// mostSetAside is how many bytes are set aside at most for pods that are not encoded yet: one
// may be much larger than the others.
const mostSetAside = 1 << 20

// encoded are pods, one after the other, with a comma behind each.
type encoded struct {
	bytes []byte
	err   error
}

// rooms are memory for what is encoded.
var rooms = sync.Pool{New: func() any { return new([]byte) }}

// writePods writes pods in their order. Those that come next are encoded meanwhile.
func writePods(w io.Writer, pods []core.Pod) error {
	var (
		coming = make(chan chan encoded, 2*runtime.GOMAXPROCS(0))
		stop   = make(chan struct{})
	)
	defer close(stop)
	go func() {
		defer close(coming)
		for some := range slices.Chunk(pods, encodedAtATime) {
			next := make(chan encoded, 1)
			select {
			case coming <- next:
			case <-stop:
				return
			}
			go func() {
				room := rooms.Get().(*[]byte)
				var e encoded
				e.bytes, e.err = encodePods((*room)[:0], some)
				next <- e
			}()
		}
	}()
	left := len(pods)
	for next := range coming {
		e := <-next
		if e.err != nil {
			return e.err
		}
		if left -= encodedAtATime; left <= 0 {
			e.bytes = e.bytes[:len(e.bytes)-1]
		}
		if _, err := w.Write(e.bytes); err != nil {
			return err
		}
		rooms.Put(&e.bytes)
	}
	return nil
}

// encodePods appends pods as they are served.
func encodePods(b []byte, pods []core.Pod) (_ []byte, err error) {
	var pod v1.Pod
	for i := range pods {
		pod = v1.Pod{}
		if err := legacyscheme.Scheme.Convert(&pods[i], &pod, nil); err != nil {
			return b, err
		}
		if b, err = write.Append(b, &pod); err != nil {
			return b, err
		}
		if b = append(b, ','); i == 0 {
			b = slices.Grow(b, min(len(b)*5/4*len(pods), mostSetAside)) // They are alike.
		}
	}
	return b, nil
}
