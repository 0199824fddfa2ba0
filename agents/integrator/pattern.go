package integrator

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/schema"
)

// examples are shown whenever a pattern is refused.
const examples = "write for example 'pods.shop.>' (all about the pods of namespace shop), 'deployments.apps.*.scaled', " +
	"'core.pods.shop.bound', 'nodes.-.>' (objects in no namespace), '*.*.shop.>' (all in a namespace) or '>' (everything)"

// ParsePattern reads what an integrator may be allowed, as people write it:
//
//	<resource>[.<group>].<namespace>.<fact>   pods.shop.bound, deployments.apps.shop.>
//	<group>.<resource>.<namespace>.<fact>     core.pods.shop.>, as subjects are
//	<resource>[.<group>].>                    everything about a resource: widgets.example.com.>
//	>                                         everything
//
// "*" stands for any one, ">" for all that may follow, "-" for the namespace of
// objects that are in none.
func ParsePattern(text string) (events.Filter, error) {
	f, err := parse(text)
	if err != nil {
		return f, fmt.Errorf("%q is no pattern of events: %w; %s", text, err, examples)
	}
	return f, nil
}

func parse(text string) (events.Filter, error) {
	f := events.Filter{Group: "*", Resource: "*", Namespace: "*", Fact: "*"}
	tokens := strings.Split(text, ".")
	if text == ">" {
		return f, nil
	}
	if err := checkTokens(tokens); err != nil {
		return f, err
	}
	var rest []string
	var err error
	if f.Group, f.Resource, rest, err = about(tokens); err != nil {
		return f, err
	}
	switch {
	case len(rest) == 1 && rest[0] == ">":
		return f, nil
	case len(rest) < 2:
		return f, fmt.Errorf("it does not say which namespace and which facts: end it in '.>' for all")
	case len(rest) > 2:
		return f, fmt.Errorf("%q is more than a namespace and a fact", strings.Join(rest, "."))
	}
	if rest[0] != "*" {
		if f.Namespace, err = namespace(rest[0]); err != nil {
			return f, err
		}
	}
	if rest[1] != "*" && rest[1] != ">" {
		f.Fact, err = fact(rest[1])
	}
	return f, err
}

// checkTokens refuses what NATS could not make sense of.
func checkTokens(tokens []string) error {
	for i, t := range tokens {
		switch {
		case t == "":
			return fmt.Errorf("there is nothing before, between or after its dots")
		case t == ">" && i < len(tokens)-1:
			return fmt.Errorf("'>' stands for all that may follow, so it comes last")
		case len(t) > 1 && strings.ContainsAny(t, "*>"):
			return fmt.Errorf("%q: '*' and '>' stand for a whole word between dots, not for a part of one", t)
		case strings.ContainsFunc(t, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' || r >= 'A' && r <= 'Z' }):
			return fmt.Errorf("%q: words are of lower case letters, digits and '-', separated by dots", t)
		}
	}
	return nil
}

// about splits off what the pattern says about the group and the resource.
func about(tokens []string) (group, resource string, rest []string, err error) {
	// As subjects are: the group first, its dots written as underscores.
	if len(tokens) > 1 && (tokens[0] == "*" || tokens[0] == "core" || strings.Contains(tokens[0], "_")) {
		group = strings.ReplaceAll(tokens[0], "_", ".")
		if group == "core" {
			group = ""
		}
		return group, tokens[1], tokens[2:], known(group, tokens[1])
	}
	best := schema.Kind{}
	for _, k := range schema.Kinds() {
		name := strings.Split(k.GroupResource(), ".")
		if len(tokens) >= len(name) && slices.Equal(tokens[:len(name)], name) && len(name) > len(strings.Split(best.GroupResource(), "."))-1 {
			best = k
		}
	}
	if best.Resource != "" {
		return best.Group, best.Resource, tokens[len(strings.Split(best.GroupResource(), ".")):], nil
	}
	// A group without dots comes first in subjects too: apps.deployments.shop.>
	for _, k := range schema.Kinds() {
		if len(tokens) > 2 && k.Group == tokens[0] && k.Resource == tokens[1] {
			return k.Group, k.Resource, tokens[2:], nil
		}
	}
	return own(tokens)
}

// own splits a pattern about somebody's own kind: its group has a dot, and the last
// two words are the namespace and the fact. If the last is '>', all about the kind may
// be meant, and the group be longer by a word.
func own(tokens []string) (group, resource string, rest []string, err error) {
	n := len(tokens)
	if n >= 4 && tokens[n-1] == ">" && domain(strings.Join(tokens[1:n-1], ".")) {
		long, short := strings.Join(tokens[1:n-1], "."), strings.Join(tokens[1:n-2], ".")
		switch {
		case n == 4 && !builtIn(tokens[0]):
			return long, tokens[0], tokens[n-1:], nil
		case n > 4 && !domain(short):
			return "", "", nil, fmt.Errorf("it may be about the group %s, or about the group %s in the namespace %s: for the one write '%s.*.*', for the other '%s.*'",
				long, short, tokens[n-2], strings.Join(tokens[:n-1], "."), strings.Join(tokens[:n-1], "."))
		}
	}
	if n >= 5 {
		return strings.Join(tokens[1:n-2], "."), tokens[0], tokens[n-2:], nil
	}
	return "", "", nil, unknown(tokens[0])
}

// builtIn says whether a word is what people call a resource of no own kind.
func builtIn(word string) bool {
	return word == "events" || word == "leases" || slices.ContainsFunc(schema.Kinds(), func(k schema.Kind) bool {
		return k.Resource == word || strings.ToLower(k.Kind) == word
	})
}

// domain says whether a group is a name below a domain that is handed out.
func domain(group string) bool {
	suffix, handed := publicsuffix.PublicSuffix(group)
	return handed && suffix != group
}

// known refuses a resource of a built-in group that has none of the name.
func known(group, resource string) error {
	if resource == "*" || group == "*" || strings.Contains(group, ".") {
		return nil
	}
	if events.Volatile(events.Ref{Group: group, Resource: resource}) {
		return unknown(resource)
	}
	if !slices.ContainsFunc(schema.Kinds(), func(k schema.Kind) bool { return k.Group == group && k.Resource == resource }) {
		return unknown(resource)
	}
	return nil
}

func unknown(word string) error {
	if word == "events" || word == "leases" {
		return fmt.Errorf("%s are not in the history and cannot be subscribed to", word)
	}
	for _, k := range schema.Kinds() {
		if strings.ToLower(k.Kind) == word {
			return fmt.Errorf("there is no resource %q: did you mean %s?", word, k.GroupResource())
		}
		if k.Resource == word && k.Group != "" {
			return fmt.Errorf("%s are in a group: write %s", word, k.GroupResource())
		}
	}
	return fmt.Errorf("there is no resource %q; one of your own needs its group, as in 'widgets.example.com.shop.>'", word)
}

func namespace(word string) (string, error) {
	if word == "-" {
		return "", nil
	}
	if wrong := validation.IsDNS1123Label(word); wrong != nil {
		return "", fmt.Errorf("%q cannot be a namespace: %s", word, strings.Join(wrong, "; "))
	}
	return word, nil
}

// CheckFact refuses what never happens to anything.
func CheckFact(word string) error {
	_, err := fact(word)
	return err
}

// fact refuses what the owners table does not know.
func fact(word string) (string, error) {
	var near []string
	for _, r := range events.Rules() {
		_, f, _ := strings.Cut(r.Type, ".")
		if f == word {
			return word, nil
		}
		if f[0] == word[0] {
			near = append(near, f)
		}
	}
	slices.SortFunc(near, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) })
	near = slices.Compact(near)
	if len(near) > 5 {
		near = near[:5]
	}
	if len(near) == 0 {
		return "", fmt.Errorf("nothing is ever %q; schemas/ lists all facts", word)
	}
	return "", fmt.Errorf("nothing is ever %q; there are %s and more, see schemas/", word, strings.Join(near, ", "))
}
