package events

// Credential lets whoever has a key speak for others: what an actor proposes is
// believed because of the connection on which it comes.
type Credential struct {
	// Name tells it from others.
	Name string
	// Key is the public half of an nkey of a user.
	Key string
	// Nodes are the names of those for whom it speaks.
	Nodes []string
}
