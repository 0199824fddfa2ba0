package eventsgen

import (
	"embed"
	"fmt"
	"strings"

	"github.com/reprise-run/reprise/events"
)

//go:embed templates
var files embed.FS

// template is a canonical document with places to fill in. In a file of
// templates, "$word" within a string stands for text, and the whole string
// "#word" for a value in canonical JSON.
type template struct {
	between []string // before, between and after the places
	places  []string
	size    int
}

func load(name string) *template {
	raw, err := files.ReadFile("templates/" + name + ".json")
	if err == nil {
		raw, err = events.Canonical(raw)
	}
	if err != nil {
		panic(fmt.Sprintf("the template %s: %v", name, err))
	}
	t := &template{size: len(raw) + 256}
	for rest := string(raw); ; {
		at := strings.IndexAny(rest, "$#")
		if at < 0 {
			t.between = append(t.between, rest)
			return t
		}
		end := at + 1
		for end < len(rest) && rest[end] >= 'a' && rest[end] <= 'z' {
			end++
		}
		before, place, after := rest[:at], rest[at+1:end], rest[end:]
		if rest[at] == '#' {
			before, after = strings.TrimSuffix(before, `"`), strings.TrimPrefix(after, `"`)
		}
		t.between, t.places, rest = append(t.between, before), append(t.places, place), after
	}
}

// fill returns the document with its places filled in: with names and values in
// turn. Text must be what JSON does not escape.
func (t *template) fill(values ...string) []byte {
	size := t.size
	for i := 1; i < len(values); i += 2 {
		size += len(values[i])
	}
	out := make([]byte, 0, size)
	for i, place := range t.places {
		out = append(append(out, t.between[i]...), find(place, values)...)
	}
	return append(out, t.between[len(t.places)]...)
}

func find(place string, values []string) string {
	for i := 0; i < len(values); i += 2 {
		if values[i] == place {
			return values[i+1]
		}
	}
	panic("a template asks for " + place)
}

var (
	accountTemplate    = load("account")
	backoffPatch       = load("backoff")
	backupTemplate     = load("backup")
	configMapTemplate  = load("configmap")
	containerTemplate  = load("container")
	crdTemplate        = load("crd")
	deploymentTemplate = load("deployment")
	exitedPatch        = load("exited")
	namespaceTemplate  = load("namespace")
	nodeTemplate       = load("node")
	podTemplate        = load("pod")
	podSpecTemplate    = load("template")
	readiedPatch       = load("readied")
	replicaSetTemplate = load("replicaset")
	rootCATemplate     = load("rootca")
	sandboxedPatch     = load("sandboxed")
	scheduledPatch     = load("scheduled")
	scoresNote         = load("scores")
	secretTemplate     = load("secret")
	startedPatch       = load("started")
	lostPatch          = load("lost")
	unreadiedPatch     = load("unreadied")
	waitingTemplate    = load("waiting")
)

// patch builds a JSON Patch of operations given as op, path and value in turn;
// the value of a removal is "".
func patch(parts ...string) []byte {
	ops := make([]events.Op, 0, len(parts)/3)
	for i := 0; i < len(parts); i += 3 {
		op := events.Op{Op: parts[i], Path: parts[i+1]}
		if parts[i+2] != "" {
			op.Value = []byte(parts[i+2])
		}
		ops = append(ops, op)
	}
	return events.AppendPatch(nil, ops)
}

// quote makes JSON of text that needs no escapes.
func quote(text string) string { return `"` + text + `"` }
