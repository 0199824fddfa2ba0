package runnertest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

type object = map[string]any

// given folds one event a line.
func (s *story) given(input string) (string, error) {
	var out strings.Builder
	blocks := splitBlocks(input)
	for _, b := range blocks {
		said, err := s.givenBlock(b)
		if err != nil {
			return "", fmt.Errorf("%q: %w", strings.SplitN(b, "\n", 2)[0], err)
		}
		out.WriteString(said)
	}
	return out.String(), nil
}

// splitBlocks cuts the input into lines with what is indented below them, and
// whole YAML objects.
func splitBlocks(input string) []string {
	var blocks []string
	whole := false
	for line := range strings.Lines(input) {
		text := strings.TrimRight(line, " \n")
		switch {
		case text == "---":
			whole = false
		case text == "" || strings.HasPrefix(text, "#"):
		case whole || (len(blocks) > 0 && strings.HasPrefix(text, " ")):
			blocks[len(blocks)-1] += "\n" + text
		default:
			whole = strings.HasPrefix(text, "apiVersion:")
			blocks = append(blocks, text)
		}
	}
	return blocks
}

func (s *story) givenBlock(block string) (string, error) {
	if strings.HasPrefix(block, "apiVersion:") {
		var doc object
		if err := yaml.Unmarshal([]byte(block), &doc); err != nil {
			return "", err
		}
		return s.givenObject(doc)
	}
	line, rest, _ := strings.Cut(block, "\n")
	words := splitWords(line)
	if words[0] == "delete" && len(words) == 3 {
		ref, err := parseRef(append(words[1:2:2], strings.Split(words[2], "/")...))
		if err != nil {
			return "", err
		}
		return s.remove(ref)
	}
	if len(words) < 2 {
		return "", fmt.Errorf("is not \"kind name key=value ...\"")
	}
	k, err := kindOf(words[0])
	if err != nil {
		return "", err
	}
	ref, err := parseRef(append(words[:1:1], strings.Split(words[1], "/")...))
	if err != nil {
		return "", err
	}
	return s.change(k.gvk, ref, words[2:], rest)
}

// givenObject folds a whole object.
func (s *story) givenObject(doc object) (string, error) {
	gvk := schema.FromAPIVersionAndKind(fmt.Sprint(doc["apiVersion"]), fmt.Sprint(doc["kind"]))
	resource := strings.ToLower(gvk.Kind) + "s"
	if k, err := kindOf(gvk.Kind); err == nil && k.gvk.Group == gvk.Group {
		resource = k.resource
	}
	m, _ := doc["metadata"].(object)
	ref := events.Ref{Group: gvk.Group, Resource: resource, Name: fmt.Sprint(m["name"])}
	if ns, ok := m["namespace"].(string); ok {
		ref.Namespace = ns
	}
	return s.put(gvk, ref, doc)
}

// change merges assignments and a YAML block into an object, which may be new.
func (s *story) change(gvk schema.GroupVersionKind, ref events.Ref, assignments []string, block string) (string, error) {
	doc := object{}
	if e := s.lookup(ref); e != nil {
		if err := json.Unmarshal(e.Raw, &doc); err != nil {
			return "", err
		}
	}
	for _, a := range assignments {
		key, value, ok := strings.Cut(a, "=")
		if !ok {
			return "", fmt.Errorf("%q is not key=value", a)
		}
		if err := s.assign(ref, doc, key, value); err != nil {
			return "", fmt.Errorf("%s: %w", a, err)
		}
	}
	if block != "" {
		var more object
		if err := yaml.Unmarshal([]byte(block), &more); err != nil {
			return "", err
		}
		merge(doc, more)
	}
	return s.put(gvk, ref, doc)
}

// put folds the object's creation or change, with what the API sets by itself.
func (s *story) put(gvk schema.GroupVersionKind, ref events.Ref, doc object) (string, error) {
	before := s.lookup(ref)
	uid := fmt.Sprintf("u%d", s.worldOf(ref).state.Sequence()+1)
	raw, err := stored(gvk, ref, before, doc, uid, s.now)
	if err != nil {
		return "", err
	}
	if m := child(doc, "metadata"); m["uid"] != nil {
		uid = fmt.Sprint(m["uid"])
	}
	return s.gated(ref, uid, before, raw)
}

// stored is the object that the API stores for one that is given, with what it
// sets by itself.
func stored(gvk schema.GroupVersionKind, ref events.Ref, before *projections.Entry, doc object, uid string, now time.Time) ([]byte, error) {
	doc["apiVersion"], doc["kind"] = gvk.GroupVersion().String(), gvk.Kind
	m := child(doc, "metadata")
	m["name"] = ref.Name
	if ref.Namespace != "" {
		m["namespace"] = ref.Namespace
	}
	setDefault(m, "uid", uid)
	setDefault(m, "creationTimestamp", stamp(now))
	if before == nil && counted(ref) {
		setDefault(m, "generation", 1)
	}
	raw, err := complete(gvk, doc)
	if err == nil && before != nil && counted(ref) {
		raw, err = count(before, raw)
	}
	return raw, err
}

// gated folds the event that the gate makes of a change, and says its type.
func (s *story) gated(ref events.Ref, uid string, before *projections.Entry, after []byte) (string, error) {
	var old []byte
	if before != nil {
		old = before.Raw
	}
	c, some, err := events.Command(ref, uid, old, after)
	if err != nil {
		return "", err
	}
	if !some {
		return "", fmt.Errorf("changes nothing")
	}
	ev := s.as.put(events.Event{Type: c.Type, Object: ref, UID: uid, Actor: events.Actor{Kind: "api"}, Data: c.Data, Optional: c.Optional})
	seq, err := s.fold(ev)
	return fmt.Sprintf("%d %s %s\n", seq, ev.Type, ref), err
}

// count sets metadata.generation as the API does when the spec changes.
func count(before *projections.Entry, raw []byte) ([]byte, error) {
	var b, a object
	if err := json.Unmarshal(before.Raw, &b); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, err
	}
	if reflect.DeepEqual(b["spec"], a["spec"]) {
		return raw, nil
	}
	child(a, "metadata")["generation"] = before.Meta().Generation + 1
	after, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	return events.Canonical(after)
}

func (s *story) remove(ref events.Ref) (string, error) {
	e := s.lookup(ref)
	if e == nil {
		return "", fmt.Errorf("there is no %s", ref)
	}
	return s.gated(ref, e.UID, e, nil)
}

func (s *story) worldOf(ref events.Ref) world {
	if events.Volatile(ref) {
		return s.volatile
	}
	return s.history
}

func (s *story) lookup(ref events.Ref) *projections.Entry { return s.worldOf(ref).get(ref) }

// stamp is a time as metav1.Time writes it.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// stampAfter is the time that a duration since the epoch names.
func stampAfter(since string) (string, error) {
	d, err := time.ParseDuration(since)
	return stamp(Epoch.Add(d)), err
}

func child(o object, key string) object {
	if c, ok := o[key].(object); ok {
		return c
	}
	c := object{}
	o[key] = c
	return c
}

func setDefault(o object, key string, v any) {
	if _, ok := o[key]; !ok {
		o[key] = v
	}
}

// merge puts what is in b into a: objects member by member, null removes.
func merge(a, b object) {
	for k, v := range b {
		av, aok := a[k].(object)
		bv, bok := v.(object)
		switch {
		case v == nil:
			delete(a, k)
		case aok && bok:
			merge(av, bv)
		default:
			a[k] = v
		}
	}
}
