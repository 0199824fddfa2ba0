package events

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
type Rule struct {
	// Type is "<noun>.<fact>"; the noun "*" stands for any.
	Type string
	// Resource is "<plural>.<group>" or "<plural>" for core; "*" for any.
	Resource string
	Effect   Effect
	// Writers are actors as Actor.String prints them; "controller:*" and "node:*"
	// match any name.
	Writers []string
	// Paths are the JSON pointers that a patch may touch, each with all below
	// it; "*" stands for any one token. None means any path. For Changes only.
	Paths []string
	// Optional is what the events of this type carry in Event.Optional.
	Optional bool
	// Doc says what the fact means, in one sentence.
	Doc string
}

// Rules returns the owners table.
func Rules() []Rule {
	var all []Rule
	for _, part := range [][]Rule{apiRules, schedulerRules, workloadRules, clusterRules, nodeRules} {
		all = append(all, part...)
	}
	return all
}
