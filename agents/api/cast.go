package api

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/registry/rest"
	upstreamstorage "k8s.io/apiserver/pkg/storage"
	storeerr "k8s.io/apiserver/pkg/storage/errors"
	"k8s.io/kubernetes/pkg/apis/core"

	"github.com/reprise-run/reprise/agents/api/quick"
	"github.com/reprise-run/reprise/events"
)

// cast is what the registry made of one pod of a mould, for others that admission
// leaves as it left that one. Only their names, UIDs and times differ, and the
// registry (its strategy, its validation and its encoding) knows no state: what it
// would make of them is the same but for these.
type cast struct {
	admitted   *core.Pod // what the registry was given
	token      string    // the volume of it in which admission puts a token; "" for none
	generation int64     // what the registry added, beside UID and time
	status     core.PodStatus
	pieces     [len(holes) + 1][]byte // of the document that was stored, between the holes
}

// holes are what stands in a document for the values that differ, in the order in
// which a canonical document has these: the time of creation, the time that the
// fields' manager wrote, the name and the UID.
var holes = [...]string{"9999-12-31T23:59:58Z", "9999-12-31T23:59:59Z", "reprise.name", "reprise.uid"}

// castOf returns the cast of a pod, nil if of it more may differ from pod to pod than
// its document has holes for.
func castOf(admitted, made *core.Pod, codec runtime.Codec) *cast {
	made = made.DeepCopy()
	made.ResourceVersion = "" // which is told when it is stored
	c := &cast{admitted: admitted, token: tokenVolume(admitted), generation: made.Generation, status: made.Status}
	want := *admitted
	want.UID, want.CreationTimestamp, want.Generation = made.UID, made.CreationTimestamp, made.Generation
	want.Status = core.PodStatus{Phase: made.Status.Phase, QOSClass: made.Status.QOSClass}
	if len(made.ManagedFields) != 1 || made.ManagedFields[0].Time == nil || !quick.Equal(&want, made) ||
		slices.ContainsFunc(made.Spec.Volumes, func(v core.Volume) bool { return v.Ephemeral != nil }) { // their claims are named after the pod
		return nil
	}
	whole, err := canonical(made, codec)
	if err != nil {
		return nil
	}
	doc, err := canonical(hollowed(made), codec)
	if err != nil {
		return nil
	}
	for i, hole := range holes {
		c.pieces[i], doc, _ = bytes.Cut(doc, []byte(hole))
	}
	c.pieces[len(holes)] = doc
	if !bytes.Equal(c.document(made), whole) {
		return nil
	}
	return c
}

// hollowed is a pod with the holes in place of its own values.
func hollowed(pod *core.Pod) *core.Pod {
	pod = pod.DeepCopy()
	at := func(s string) metav1.Time {
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			panic(err)
		}
		return metav1.NewTime(t)
	}
	wrote := at(holes[1])
	pod.CreationTimestamp, pod.ManagedFields[0].Time, pod.Name, pod.UID = at(holes[0]), &wrote, holes[2], types.UID(holes[3])
	return pod
}

func canonical(pod *core.Pod, codec runtime.Codec) ([]byte, error) {
	doc, err := runtime.Encode(codec, pod)
	if err != nil {
		return nil, err
	}
	return events.Canonical(doc)
}

// document is that of a pod for which there is a cast.
func (c *cast) document(pod *core.Pod) []byte {
	size := 2*len(time.RFC3339) + len(pod.Name) + len(pod.UID)
	for _, p := range c.pieces {
		size += len(p)
	}
	b := append(make([]byte, 0, size), c.pieces[0]...)
	b = append(pod.CreationTimestamp.UTC().AppendFormat(b, time.RFC3339), c.pieces[1]...)
	b = append(pod.ManagedFields[0].Time.UTC().AppendFormat(b, time.RFC3339), c.pieces[2]...)
	b = append(append(b, pod.Name...), c.pieces[3]...)
	return append(append(b, pod.UID...), c.pieces[4]...)
}

// fits says whether the registry would make the same of a pod that has been admitted:
// it is equal but for a name of the same form and the time. Admission names the volume
// for a token at random; if all else is equal it has the name it had in the cast.
func (c *cast) fits(pod *core.Pod) bool {
	if len(pod.ManagedFields) != 1 || pod.ManagedFields[0].Time == nil || !sameForm(c.admitted.Name, pod.Name) {
		return false
	}
	token := tokenVolume(pod)
	var renamed []*string
	if token != c.token {
		renamed = volumeNames(&pod.Spec, token)
	}
	for _, name := range renamed {
		*name = c.token
	}
	name, wrote := pod.Name, pod.ManagedFields[0].Time
	pod.Name, pod.ManagedFields[0].Time = c.admitted.Name, c.admitted.ManagedFields[0].Time
	same := quick.Equal(c.admitted, pod)
	pod.Name, pod.ManagedFields[0].Time = name, wrote
	if same {
		return true
	}
	for _, name := range renamed {
		*name = token
	}
	return false
}

// sameForm says whether two names differ in nothing that a rule about names, or about
// what is made of them, can tell apart: in letters and digits behind their last hyphen.
func sameForm(a, b string) bool {
	last := strings.LastIndexByte(a, '-') + 1
	if len(a) != len(b) || a[:last] != b[:last] {
		return false
	}
	for i := last; i < len(a); i++ {
		if a[i] != b[i] && (last == 0 || !letterOrDigit(a[i]) || !letterOrDigit(b[i])) {
			return false
		}
	}
	return true
}

func letterOrDigit(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// tokenVolume is the name of the first volume that is named as admission names the one
// for a token.
func tokenVolume(pod *core.Pod) string {
	for i := range pod.Spec.Volumes {
		if name := pod.Spec.Volumes[i].Name; strings.HasPrefix(name, "kube-api-access-") {
			return name
		}
	}
	return ""
}

// volumeNames is where a volume's name stands: the volume has it, and what mounts it.
func volumeNames(spec *core.PodSpec, name string) (at []*string) {
	for i := range spec.Volumes {
		if v := &spec.Volumes[i]; v.Name == name {
			at = append(at, &v.Name)
		}
	}
	for _, containers := range [...][]core.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			for j := range containers[i].VolumeMounts {
				if m := &containers[i].VolumeMounts[j]; m.Name == name {
					at = append(at, &m.Name)
				}
			}
		}
	}
	return at
}

// pour creates a pod that fits the cast, as the registry would. If the name is taken by a
// pod that is being deleted, the registry would also say so.
func (l *lane) pour(ctx context.Context, c *cast, pod *core.Pod, validate rest.ValidateObjectFunc) error {
	rest.FillObjectMetaSystemFields(pod)
	pod.Generation, pod.Status = c.generation, c.status
	ref, doc := events.Ref{Resource: "pods", Namespace: pod.Namespace, Name: pod.Name}, c.document(pod)
	if err := validate(ctx, pod); err != nil {
		return err
	}
	_, made, err := l.backend.CreateDocument(ctx, ref, string(pod.UID), doc)
	if err == nil && !made {
		err = upstreamstorage.NewKeyExistsError(ref.Text(), 0)
	}
	err = storeerr.InterpretCreateError(err, podResource.GroupResource(), pod.Name)
	return rest.CheckGeneratedNameError(ctx, l.store.CreateStrategy, err, pod)
}
