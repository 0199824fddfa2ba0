package events

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Effect is what an event of a type does to its object.
type Effect int

// The effects.
const (
	// Creates: the object was not there; Data is the whole of it.
	Creates Effect = iota
	// Changes: the object was there; Data is a patch of it.
	Changes
	// Removes: the object was there; Data is Removal.
	Removes
	// Puts: the object is now as Data says, whole, whether it was there or not.
	// For volatile objects only.
	Puts
)

// Rule says who may write events of one type, and what they may do to the
// object. The rules together are the owners table: what is not in it can
// neither be appended nor folded.
//
// Several rules may bear the same type and resource if their writers differ and
// their Effect and Optional do not: each then says what its own writers may do.
type Rule struct {
	// Type is "<noun>.<fact>"; the noun "*" stands for any.
	Type string
	// Resource is "<plural>.<group>" or "<plural>" for core; "*" for any.
	Resource string
	Effect   Effect
	// Writers are actors as Actor.String prints them; "controller:*" and "node:*"
	// match any name, and so does a kind without a name.
	Writers []string
	// Paths are the JSON pointers that a patch may touch, each with all below
	// it; "*" stands for any one token. None means any path. For Changes only.
	// /metadata/managedFields and /metadata/generation are always among them, and
	// so is the annotation in which kubectl apply keeps what was applied.
	Paths []string
	// Needs is an operation that the patch must have, as Op.String prints it or
	// the beginning of that up to a blank, such as "add /spec/unschedulable": it
	// tells facts about the same paths apart. May be empty.
	Needs string
	// Optional is what the events of this type carry in Event.Optional.
	Optional bool
	// Doc says what the fact means, in one sentence.
	Doc string
}

// Rules returns the owners table. For the gate, which finds the type from the
// change, the first rule that fits counts: see Command.
func Rules() []Rule {
	return slices.Concat(apiRules, schedulerRules, workloadRules, clusterRules, nodeRules, notaryRules)
}

// always are the paths that every patch may touch beside those of its rule:
// bookkeeping that comes with any change. The gate keeps the first two, kubectl
// apply the third.
var always = [][]string{
	{"metadata", "managedFields"},
	{"metadata", "generation"},
	{"metadata", "annotations", "kubectl.kubernetes.io~1last-applied-configuration"},
}

// AlwaysPaths are the JSON pointers that every patch may touch beside the paths
// of its rule.
func AlwaysPaths() []string {
	var all []string
	for _, path := range always {
		all = append(all, "/"+strings.Join(path, "/"))
	}
	return all
}

// rule is a Rule made ready for matching.
type rule struct {
	Rule
	noun            string
	resource, group string // of Resource
	paths           [][]string
}

// table holds the rules by fact (the part of the type after the dot), those
// that name a noun before those for any.
var table = index(Rules())

func index(rules []Rule) map[string][]rule {
	byFact := make(map[string][]rule)
	for _, r := range rules {
		_, fact, _ := strings.Cut(r.Type, ".")
		byFact[fact] = append(byFact[fact], r.ready())
	}
	for _, of := range byFact {
		slices.SortStableFunc(of, func(a, b rule) int {
			return cmp.Or(a.generality()-b.generality(), cmp.Compare(a.noun, b.noun), cmp.Compare(a.Resource, b.Resource))
		})
	}
	return byFact
}

func (r Rule) ready() rule {
	noun, _, _ := strings.Cut(r.Type, ".")
	resource, group, _ := strings.Cut(r.Resource, ".")
	ready := rule{Rule: r, noun: noun, resource: resource, group: group}
	for _, p := range r.Paths {
		ready.paths = append(ready.paths, tokens(p))
	}
	return ready
}

// generality is lower the more exactly a rule says what it is about.
func (r *rule) generality() int {
	n := 0
	if r.noun == "*" {
		n += 2
	}
	if r.Resource == "*" {
		n++
	}
	return n
}

// about says whether a rule is about a noun and a resource.
func (r *rule) about(noun string, object Ref) bool {
	return (r.noun == noun || r.noun == "*") && (r.Resource == "*" || r.resource == object.Resource && r.group == object.Group)
}

// rulesFor returns the rules for a type on a resource: those of the least
// generality that there are any of. They lie side by side in the table, because of
// the order that it has.
func rulesFor(typ string, object Ref) []rule {
	noun, fact, _ := strings.Cut(typ, ".")
	of := table[fact]
	first := 0
	for first < len(of) && !of[first].about(noun, object) {
		first++
	}
	end := first
	for end < len(of) && of[end].generality() == of[first].generality() && of[end].about(noun, object) {
		end++
	}
	return of[first:end]
}

// EffectOf says what an event of the type does to the object, and false if the
// owners table does not know the type for that resource.
func EffectOf(typ string, object Ref) (Effect, bool) {
	rules := rulesFor(typ, object)
	if len(rules) == 0 {
		return 0, false
	}
	return rules[0].Effect, true
}

// Check refuses a change that the owners table does not allow the actor, with a
// *RefusedError.
func Check(c Change, by Actor) error {
	if _, reason := check(nil, rulesFor(c.Type, c.Object), &c, by); reason != "" {
		return &RefusedError{Type: c.Type, Object: c.Object, Actor: by, Reason: reason}
	}
	return nil
}

// AppendChecked is EffectOf and Check for who folds an event. The operations of
// its patch are appended to others.
func AppendChecked(ops []Op, e *Event) (effect Effect, known bool, all []Op, err error) {
	rules := rulesFor(e.Type, e.Object)
	if len(rules) == 0 {
		return 0, false, nil, nil
	}
	c := e.change()
	all, reason := check(ops, rules, &c, e.Actor)
	if reason != "" {
		return 0, true, nil, &RefusedError{Type: c.Type, Object: c.Object, Actor: e.Actor, Reason: reason}
	}
	return rules[0].Effect, true, all, nil
}

// Check refuses an event that the owners table does not allow its actor, with a
// *RefusedError. A fold calls it on what it reads.
func (e *Event) Check() error { return Check(e.change(), e.Actor) }

func (e *Event) change() Change {
	return Change{Type: e.Type, Object: e.Object, UID: e.UID, Data: e.Data, Note: e.Note, Optional: e.Optional}
}

// check returns the operations of a patch behind others.
func check(ops []Op, rules []rule, c *Change, by Actor) (all []Op, reason string) {
	if len(rules) == 0 {
		return nil, fmt.Sprintf("there is no such type for %s in the owners table", c.Object.GroupResource())
	}
	r, ok := writtenBy(rules, by)
	if !ok {
		return nil, "only " + writers(rules) + " may write it"
	}
	if c.Optional != r.Optional {
		return nil, fmt.Sprintf("events of this type have optional=%t", r.Optional)
	}
	if len(c.Note) > 0 && !json.Valid(c.Note) {
		return nil, "the note is not JSON"
	}
	switch r.Effect {
	case Puts, Creates:
		if r.Effect == Puts && !Volatile(c.Object) {
			return nil, "only volatile objects may be put whole"
		}
		return nil, checkWhole(c)
	case Removes:
		if !IsRemoval(c.Data) {
			return nil, "a removal's data must be " + string(removed)
		}
		return nil, ""
	}
	all, err := AppendOps(ops, c.Data)
	if err != nil {
		return nil, err.Error()
	}
	return all, r.checkOps(all[len(ops):])
}

func checkWhole(c *Change) string {
	data := c.Data
	if len(data) == 0 || data[0] != '{' {
		return "its data must be the whole object"
	}
	if c.canonical != extentOf(data) && !IsCanonical(data) {
		return "its data is not canonical JSON"
	}
	return ""
}

func (r *rule) checkOps(ops []Op) string {
	if len(ops) == 0 {
		return "the patch is empty"
	}
	for _, op := range ops {
		if op.Path == "" {
			return "a change may not replace the whole object"
		}
		if len(r.paths) > 0 && !covered(op.Path, r.paths) && !covered(op.Path, always) {
			return fmt.Sprintf("it may not touch %s, only %s", op.Path, strings.Join(r.Paths, ", "))
		}
	}
	if !r.satisfied(ops) {
		return "its patch must have: " + r.Needs
	}
	return ""
}

func (r *rule) satisfied(ops []Op) bool {
	return r.Needs == "" || slices.ContainsFunc(ops, func(op Op) bool {
		rest, ok := strings.CutPrefix(op.String(), r.Needs)
		return ok && (rest == "" || rest[0] == ' ')
	})
}

// writtenBy finds the rule that lets an actor write.
func writtenBy(rules []rule, by Actor) (*rule, bool) {
	for i := range rules {
		r := &rules[i]
		if slices.ContainsFunc(r.Writers, by.matches) {
			return r, true
		}
	}
	return nil, false
}

func writers(rules []rule) string {
	var all []string
	for _, r := range rules {
		all = append(all, r.Writers...)
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ", ")
}

// matches says whether an actor is one that the pattern of Rule.Writers means.
func (a Actor) matches(pattern string) bool {
	kind, name, named := strings.Cut(pattern, ":")
	return kind == a.Kind && (!named || name == a.Name || (name == "*" && a.Name != ""))
}

// covered says whether a JSON pointer is one of the paths or below one.
func covered(pointer string, paths [][]string) bool {
	return slices.ContainsFunc(paths, func(path []string) bool {
		rest, more := strings.CutPrefix(pointer, "/")
		for _, want := range path {
			if !more {
				return false
			}
			var token string
			if token, rest, more = strings.Cut(rest, "/"); want != "*" && want != token {
				return false
			}
		}
		return true
	})
}

// tokens splits a JSON pointer other than "", leaving the tokens escaped.
func tokens(pointer string) []string {
	return strings.Split(strings.TrimPrefix(pointer, "/"), "/")
}
