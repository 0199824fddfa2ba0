package runnertest

import (
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/reprise-run/reprise/events"
)

// assign carries out one key=value of a given line. A key with a dot is a path
// into the object. The others are shorthands:
//
//	labels annotations finalizers uid generation   metadata.*
//	created=3s deleted=3s   metadata.creationTimestamp, metadata.deletionTimestamp
//	owner=kind/name         the controller reference to an object of the same namespace
//	selector={..}           spec.selector, or its matchLabels; then also the template's labels
//	image=x                 the one container's image, of the object or its template
//	node=n1 phase=Running   spec.nodeName, status.phase
//	ready=3s ready=false@3s ready=unknown@3s   the condition Ready, and since when
//	requests={cpu: 1}       the one container's requests
//	allocatable={cpu: 4}    status.allocatable
//	status={..}             merged into the status
//	taints=[..] and any other key   spec.*
func (s *story) assign(ref events.Ref, doc object, key, text string) error {
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		return err
	}
	switch key {
	case "labels", "annotations", "finalizers", "uid", "generation":
		child(doc, "metadata")[key] = value
	case "created":
		return setTime(child(doc, "metadata"), "creationTimestamp", text)
	case "deleted":
		child(doc, "metadata")["deletionGracePeriodSeconds"] = 30
		return setTime(child(doc, "metadata"), "deletionTimestamp", text)
	case "owner":
		return s.assignOwner(ref, doc, text)
	case "selector":
		assignSelector(doc, ref, value)
	case "image":
		container(doc, ref)["image"] = value
	case "requests":
		child(container(doc, ref), "resources")["requests"] = value
	case "node":
		child(doc, "spec")["nodeName"] = value
	case "status":
		more, ok := value.(object)
		if !ok {
			return fmt.Errorf("is not an object")
		}
		merge(child(doc, "status"), more)
	case "phase", "allocatable":
		child(doc, "status")[key] = value
	case "ready":
		return assignReady(doc, text)
	default:
		path := strings.Split(key, ".")
		if len(path) == 1 {
			path = []string{"spec", key}
		}
		at := doc
		for _, p := range path[:len(path)-1] {
			at = child(at, p)
		}
		if value == nil {
			delete(at, path[len(path)-1])
			return nil
		}
		at[path[len(path)-1]] = value
	}
	return nil
}

func setTime(o object, key, since string) error {
	at, err := stampAfter(since)
	o[key] = at
	return err
}

func (s *story) assignOwner(ref events.Ref, doc object, text string) error {
	parts := strings.Split(text, "/")
	if len(parts) == 2 && ref.Namespace != "" {
		parts = []string{parts[0], ref.Namespace, parts[1]}
	}
	owner, err := parseRef(parts)
	if err != nil {
		return err
	}
	k, err := kindOf(parts[0])
	if err != nil {
		return err
	}
	uid := "gone"
	if e := s.lookup(owner); e != nil {
		uid = e.UID
	}
	child(doc, "metadata")["ownerReferences"] = []any{object{
		"apiVersion": k.gvk.GroupVersion().String(), "kind": k.gvk.Kind, "name": owner.Name,
		"uid": uid, "controller": true, "blockOwnerDeletion": true,
	}}
	return nil
}

// templated says whether the object holds a pod template.
func templated(ref events.Ref) bool {
	return ref.Group == "apps" || (ref.Group == "batch" && ref.Resource == "jobs")
}

func assignSelector(doc object, ref events.Ref, value any) {
	if !templated(ref) && ref.Group != "policy" {
		child(doc, "spec")["selector"] = value
		return
	}
	child(doc, "spec")["selector"] = object{"matchLabels": value}
	if ref.Group == "policy" {
		return
	}
	child(child(child(doc, "spec"), "template"), "metadata")["labels"] = value
}

// container returns the one container of a pod or of a pod template.
func container(doc object, ref events.Ref) object {
	spec := child(doc, "spec")
	if templated(ref) {
		spec = child(child(spec, "template"), "spec")
	}
	if list, ok := spec["containers"].([]any); ok && len(list) > 0 {
		return list[0].(object)
	}
	c := object{"name": "c"}
	spec["containers"] = []any{c}
	return c
}

func assignReady(doc object, text string) error {
	status, since, ok := strings.Cut(text, "@")
	if !ok {
		status, since = "true", text
	}
	at, err := stampAfter(since)
	if err != nil {
		return err
	}
	ready := object{"type": "Ready", "status": strings.ToUpper(status[:1]) + status[1:], "lastTransitionTime": at}
	st := child(doc, "status")
	list, _ := st["conditions"].([]any)
	for i, c := range list {
		if c.(object)["type"] == "Ready" {
			list[i] = ready
			return nil
		}
	}
	st["conditions"] = append(list, ready)
	return nil
}

// splitWords cuts a line at spaces that are in no bracket or quote.
func splitWords(line string) []string {
	var words []string
	depth, quote, start := 0, rune(0), -1
	for i, r := range line + " " {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '"' || r == '\'':
			quote = r
		case r == '{' || r == '[':
			depth++
		case r == '}' || r == ']':
			depth--
		}
		switch {
		case r == ' ' && depth == 0 && quote == 0:
			if start >= 0 {
				words = append(words, line[start:i])
			}
			start = -1
		case start < 0:
			start = i
		}
	}
	if start >= 0 { // an unclosed bracket: let YAML complain
		words = append(words, line[start:])
	}
	return words
}
