package events

// The notary vouches for the log in the log itself: see events/proof. Its facts are
// optional, because no state rests on them.
var notaryRules = []Rule{
	{Type: "checkpoint.begun", Resource: "checkpoints.reprise.run", Effect: Creates, Writers: notary, Optional: true,
		Doc: "A key that its spec names begins to sign checkpoints of the log."},
	{Type: "checkpoint.signed", Resource: "checkpoints.reprise.run", Effect: Changes, Writers: notary, Optional: true,
		Paths: []string{"/status"}, Doc: "The key has signed how the log began, up to an event before this one."},
}

var notary = []string{"notary"}
