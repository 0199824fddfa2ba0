// Package bus names what goes between a node and the servers over the one
// connection that a node makes: outbound, to NATS. No port is open on a node,
// and a node behind NAT works. cmd gives each node's NATS user the permissions
// that Node.Permissions returns; the sub-packages do the talking:
//
//   - feed: the objects that the node may know, to the node;
//   - tunnel: connections from the API server to the node, for logs, exec, attach
//     and port-forward;
//   - calls: the node's requests for service account tokens;
//   - presence: who is there;
//   - roster: who may speak for which nodes.
//
// What the node has to say about itself and its pods goes as proposals to the
// committer (events.Proposer), lease renewals included.
//
// Subjects are named after the node, so that NATS's permissions say who speaks
// and who hears. Their first token is not that of the log's subjects: what is
// said here is never stored.
//
//	<prefix>-bus.call.<node>.<method>   node -> servers, requests
//	<prefix>-bus.up.<node>.<id>         node -> server, what goes through tunnels
//	<prefix>-bus.down.<node>[.<id>]     server -> node, likewise
//	<prefix>-bus.feed.<node>            server -> node
//	_INBOX.<prefix>.node.<node>.>       servers -> node, answers
//	_INBOX.<prefix>.nodes.<name>.>      servers -> nodes that share a connection, answers
package bus

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
)

// Node names one node on the bus of one cluster.
type Node struct {
	prefix, token string
}

// NewNode returns the place of a node on the bus of the cluster whose log has the
// prefix.
func NewNode(prefix, node string) (Node, error) {
	token, err := nodeToken(node)
	return Node{prefix: prefix, token: token}, err
}

// AnyNode stands for all nodes in what a server subscribes to.
func AnyNode(prefix string) Node { return Node{prefix: prefix, token: "*"} }

// Call is the subject of the node's requests of a kind.
func (n Node) Call(method string) string { return n.prefix + "-bus.call." + n.token + "." + method }

// Up and Down are the subjects of a tunnel's two directions.
func (n Node) Up(id string) string { return n.prefix + "-bus.up." + n.token + "." + id }

// Down is where a server talks to the node through a tunnel; to open one, id is
// empty.
func (n Node) Down(id string) string {
	if id == "" {
		return n.prefix + "-bus.down." + n.token
	}
	return n.prefix + "-bus.down." + n.token + "." + id
}

// Feed is the subject of the node's feed.
func (n Node) Feed() string { return n.prefix + "-bus.feed." + n.token }

func (n Node) inbox() string { return "_INBOX." + n.prefix + ".node." + n.token }

// Inbox is the option with which the node must connect: answers to its requests
// come where only it may listen.
func (n Node) Inbox() nats.Option { return nats.CustomInboxPrefix(n.inbox()) }

// Permissions are the subjects that the node may publish and subscribe to. Its
// proposals are among them.
func (n Node) Permissions() (publish, subscribe []string) {
	publish, subscribe = n.own()
	return publish, append(subscribe, n.inbox()+".>")
}

// own is Permissions but for where answers come. All that is named after the node is the
// node's, whatever the kind: what it may so say beyond calls and tunnels is heard by those who
// hold the node alone, and what it may so hear beyond its feed and tunnels is what they said.
// A subject of each kind would be twice as much for NATS to keep of each node, all of it for
// the collector to look at (decision 0394).
func (n Node) own() (publish, subscribe []string) {
	each := n.prefix + "-bus.*." + n.token
	return []string{n.prefix + ".propose.node." + n.token, each + ".>"}, []string{each, each + ".>"}
}

// Nodes are several nodes that share one connection, as the hollow ones of a
// process do. Each goes on to speak on its own subjects, so that what servers hear
// is what they hear of nodes apart; the connection may use those of each, and of no
// other.
type Nodes struct {
	prefix, token string
	all           []Node
}

// NewNodes returns the place of nodes that share the connection of a name.
func NewNodes(prefix, name string, nodes []string) (Nodes, error) {
	token, err := nodeToken(name)
	if err != nil {
		return Nodes{}, fmt.Errorf("nodes that share a connection: %w", err)
	}
	n := Nodes{prefix: prefix, token: token}
	for _, name := range nodes {
		node, err := NewNode(prefix, name)
		if err != nil {
			return Nodes{}, err
		}
		n.all = append(n.all, node)
	}
	return n, nil
}

func (n Nodes) inbox() string { return nodesInbox(n.prefix) + n.token }

func nodesInbox(prefix string) string { return "_INBOX." + prefix + ".nodes." }

// Inbox is as for a Node: only this connection may listen there.
func (n Nodes) Inbox() nats.Option { return nats.CustomInboxPrefix(n.inbox()) }

// Permissions are the subjects that the connection may publish and subscribe to.
func (n Nodes) Permissions() (publish, subscribe []string) {
	subscribe = []string{n.inbox() + ".>"}
	for _, node := range n.all {
		p, s := node.own()
		publish, subscribe = append(publish, p...), append(subscribe, s...)
	}
	return publish, subscribe
}

// Caller returns the node that a request on a subject of Call comes from.
func Caller(subject string) (node string, ok bool) {
	t := strings.Split(subject, ".")
	if len(t) < 4 || t[1] != "call" {
		return "", false
	}
	return strings.ReplaceAll(t[2], "_", "."), true
}

// Answer answers a node's call, if the answer is to go where that node alone may
// listen, or nodes that share a connection. NATS lets a caller name any subject for
// it, and a server may publish on all: without this a node could have a server write
// into the log, or delete it.
func Answer(m *nats.Msg, body []byte) error {
	prefix, _, _ := strings.Cut(m.Subject, "-bus.")
	caller, ok := Caller(m.Subject)
	node, err := NewNode(prefix, caller)
	if !ok || err != nil || !strings.HasPrefix(m.Reply, node.inbox()+".") && !strings.HasPrefix(m.Reply, nodesInbox(prefix)) {
		return fmt.Errorf("the call on %s asks for an answer on %q, which is no place of its node's", m.Subject, m.Reply)
	}
	return m.Respond(body)
}

// nodeToken makes one token of a name; since names of nodes are DNS names, in
// which no underscore occurs, it can be undone.
func nodeToken(node string) (string, error) {
	bad := func(r rune) bool {
		return !(r == '-' || r == '.' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9')
	}
	if node == "" || strings.ContainsFunc(node, bad) {
		return "", fmt.Errorf("%q is no name of a node: use lower case letters, digits, '-' and '.'", node)
	}
	return strings.ReplaceAll(node, ".", "_"), nil
}
