package jetstream

import (
	"fmt"
	"strings"

	"github.com/reprise-run/reprise/events"
)

// subject is where an event is published: what integrators subscribe to.
func subject(root string, e *events.Event) string {
	group := e.Object.Group
	if group == "" {
		group = "core"
	}
	return strings.Join([]string{root, token(group), token(e.Object.Resource), token(e.Object.Namespace), token(e.Fact())}, ".")
}

// filterSubject is the wildcard subject of the events that a filter chooses.
func filterSubject(root string, f events.Filter) string {
	group := f.Group
	if group == "" {
		group = "core"
	}
	tokenOrAny := func(name string) string {
		if name == "*" {
			return name
		}
		return token(name)
	}
	return strings.Join([]string{root, tokenOrAny(group), tokenOrAny(f.Resource), tokenOrAny(f.Namespace), tokenOrAny(f.Fact)}, ".")
}

// token makes one token of a subject of a name. It is not undone: the envelope
// has the names as they are.
func token(name string) string {
	if name == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '.', r == '*', r == '>', r <= ' ', r >= 0x7f:
			return '_'
		}
		return r
	}, name)
}

// plain says whether a name is of lower case letters, digits and '-' alone, and so means the
// same as a token of a subject and as the name of a stream, a consumer or a key.
func plain(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool { return !(r == '-' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9') })
}

// actorToken is a token that says who is speaking, and that actorName undoes:
// names of nodes and controllers are DNS names, in which no underscore occurs.
func actorToken(name string) (string, error) {
	if name == "" {
		return "-", nil
	}
	if name == "-" || strings.ContainsFunc(name, func(r rune) bool { return r == '_' || r == '*' || r == '>' || r <= ' ' || r >= 0x7f }) {
		return "", fmt.Errorf("%q cannot name an actor: use letters, digits, '-' and '.'", name)
	}
	return strings.ReplaceAll(name, ".", "_"), nil
}

// actorName undoes actorToken.
func actorName(token string) string {
	if token == "-" {
		return ""
	}
	return strings.ReplaceAll(token, "_", ".")
}
