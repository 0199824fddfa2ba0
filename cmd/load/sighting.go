package load

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// sighting is as much of a pod as the observer goes by, and a reflector. The rest of what
// a server sends is skipped and not decoded: the observer runs on the processors that it
// measures.
type sighting struct {
	metav1.TypeMeta
	metav1.ObjectMeta
	node  string
	ready bool
}

// sightings are a list of pods.
type sightings struct {
	metav1.TypeMeta
	metav1.ListMeta
	Items []sighting
}

// sightingClient returns a client of a server's pods that decodes sightings.
func sightingClient(c *rest.Config) (rest.Interface, error) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, core.SchemeGroupVersion)
	scheme.AddKnownTypeWithName(core.SchemeGroupVersion.WithKind("Pod"), &sighting{})
	scheme.AddKnownTypeWithName(core.SchemeGroupVersion.WithKind("PodList"), &sightings{})
	c = Client(c)
	c.APIPath, c.GroupVersion = "/api", &core.SchemeGroupVersion
	c.AcceptContentTypes = runtime.ContentTypeProtobuf // the one encoding that a sighting knows
	c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	return rest.RESTClientFor(c)
}

// DeepCopyObject is runtime.Object's.
func (s *sighting) DeepCopyObject() runtime.Object {
	out := *s
	out.ObjectMeta = *s.ObjectMeta.DeepCopy()
	return &out
}

// DeepCopyObject is runtime.Object's.
func (s *sightings) DeepCopyObject() runtime.Object {
	out := *s
	out.Items = nil
	for i := range s.Items {
		out.Items = append(out.Items, *s.Items[i].DeepCopyObject().(*sighting))
	}
	return &out
}

// Reset is what the decoder asks for.
func (s *sighting) Reset() { *s = sighting{} }

// Reset is what the decoder asks for.
func (s *sightings) Reset() { *s = sightings{} }

// eachField calls each for the fields of a message that have a length, with their numbers as
// k8s.io/api/core/v1/generated.proto has them.
func eachField(message []byte, each func(number protowire.Number, value []byte) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return protowire.ParseError(n)
		}
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message)
			if err := each(number, value); err != nil {
				return err
			}
		}
		message = message[n:]
	}
	return nil
}

// Unmarshal reads a pod.
func (s *sighting) Unmarshal(pod []byte) error {
	return eachField(pod, func(number protowire.Number, value []byte) error {
		switch number {
		case 1:
			return eachField(value, s.metadata)
		case 2:
			return eachField(value, s.spec)
		case 3:
			return eachField(value, s.status)
		}
		return nil
	})
}

func (s *sighting) metadata(number protowire.Number, value []byte) error {
	switch number {
	case 1:
		s.Name = string(value)
	case 3:
		s.Namespace = string(value)
	case 5:
		s.UID = types.UID(value)
	case 6:
		s.ResourceVersion = string(value)
	case 11:
		return pair(value, appLabel, &s.Labels)
	case 12:
		return pair(value, metav1.InitialEventsAnnotationKey, &s.Annotations)
	}
	return nil
}

// pair reads an entry of a map if it has a key.
func pair(entry []byte, key string, into *map[string]string) error {
	var is bool
	return eachField(entry, func(number protowire.Number, value []byte) error {
		switch {
		case number == 1:
			is = string(value) == key
		case number == 2 && is:
			*into = map[string]string{key: string(value)}
		}
		return nil
	})
}

func (s *sighting) spec(number protowire.Number, value []byte) error {
	if number == 10 {
		s.node = string(value)
	}
	return nil
}

func (s *sighting) status(number protowire.Number, value []byte) error {
	if number != 2 {
		return nil
	}
	var is bool
	return eachField(value, func(number protowire.Number, value []byte) error {
		switch {
		case number == 1:
			is = string(value) == string(core.PodReady)
		case number == 2 && is:
			s.ready = string(value) == string(core.ConditionTrue)
		}
		return nil
	})
}

// Unmarshal reads a list of pods.
func (s *sightings) Unmarshal(list []byte) error {
	return eachField(list, func(number protowire.Number, value []byte) error {
		switch number {
		case 1:
			return s.ListMeta.Unmarshal(value)
		case 2:
			var item sighting
			if err := item.Unmarshal(value); err != nil {
				return fmt.Errorf("pod %d of a list: %w", len(s.Items), err)
			}
			s.Items = append(s.Items, item)
		}
		return nil
	})
}
