// Package calls carries the requests of nodes to servers: for tokens of service
// accounts, and to know whether a server is there. Servers run Serve; a node makes
// a Client. The subject says which node is asking, so no request names it.
//
// Renewals of a node's lease do not go this way: they are events like any other,
// and the node proposes them.
package calls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/reprise-run/reprise/agents/bus"
)

// Tokens makes a token of a service account on behalf of a node: the server's
// part, which must check that a pod of the account is bound there.
type Tokens func(ctx context.Context, node, namespace, account string, r *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)

const (
	methodToken = "token"
	methodPing  = "ping"
)

// patience is how long a call waits for its answer.
const patience = 30 * time.Second

type tokenCall struct {
	Namespace, Account string
	Request            *authenticationv1.TokenRequest
}

// answer is a result, or why there is none: as the API says it, or in words.
type answer struct {
	Token  *authenticationv1.TokenRequest `json:",omitempty"`
	Status *metav1.Status                 `json:",omitempty"`
	Error  string                         `json:",omitempty"`
}

// Serve answers the calls of all nodes until stop is called, which waits for those
// under way.
func Serve(nc *nats.Conn, prefix string, tokens Tokens) (stop func(), err error) {
	s := &server{tokens: tokens}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	any := bus.AnyNode(prefix)
	for subject, handle := range map[string]nats.MsgHandler{any.Call(methodToken): s.token, any.Call(methodPing): s.ping} {
		// One queue for all servers: each call is answered once.
		sub, err := nc.QueueSubscribe(subject, "calls", handle)
		if err != nil {
			s.stop()
			return nil, fmt.Errorf("cannot serve the calls of nodes: %w", err)
		}
		s.subs = append(s.subs, sub)
	}
	if err := nc.Flush(); err != nil {
		s.stop()
		return nil, fmt.Errorf("cannot serve the calls of nodes: %w", err)
	}
	return s.stop, nil
}

type server struct {
	tokens Tokens
	ctx    context.Context // ends with the serving
	cancel context.CancelFunc
	subs   []*nats.Subscription
	busy   sync.WaitGroup
}

func (s *server) stop() {
	for _, sub := range s.subs {
		// It fails only if the connection is gone, and then nothing comes.
		_ = sub.Unsubscribe()
	}
	s.cancel()
	s.busy.Wait()
}

func (s *server) ping(m *nats.Msg) { respond(m, answer{}) }

func (s *server) token(m *nats.Msg) {
	s.busy.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, patience)
		defer cancel()
		var c tokenCall
		node, ok := bus.Caller(m.Subject)
		if err := json.Unmarshal(m.Data, &c); err != nil || !ok || c.Request == nil {
			respond(m, answer{Error: "the request for a token cannot be read"})
			return
		}
		token, err := s.tokens(ctx, node, c.Namespace, c.Account, c.Request)
		respond(m, answerOf(token, err))
	})
}

func answerOf(token *authenticationv1.TokenRequest, err error) answer {
	var status apierrors.APIStatus
	switch {
	case errors.As(err, &status):
		s := status.Status()
		return answer{Status: &s}
	case err != nil:
		return answer{Error: err.Error()}
	}
	return answer{Token: token}
}

func respond(m *nats.Msg, a answer) {
	body, err := json.Marshal(a)
	if err != nil {
		panic(fmt.Sprintf("cannot encode an answer: %v", err))
	}
	// If the answer is lost, the node asks again.
	_ = bus.Answer(m, body)
}

// Client makes a node's calls.
type Client struct {
	nc   *nats.Conn
	node bus.Node
}

// NewClient returns the client of a node.
func NewClient(nc *nats.Conn, node bus.Node) *Client { return &Client{nc: nc, node: node} }

// Token asks for a token of a service account. Errors of the API come as
// *apierrors.StatusError.
func (c *Client) Token(ctx context.Context, namespace, account string, r *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	a, err := c.call(ctx, methodToken, tokenCall{namespace, account, r})
	if err != nil {
		return nil, fmt.Errorf("cannot get a token of service account %s/%s: %w", namespace, account, err)
	}
	return a.Token, nil
}

// Ping says whether a server answers.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.call(ctx, methodPing, nil)
	return err
}

func (c *Client) call(ctx context.Context, method string, request any) (answer, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m, err := c.nc.RequestWithContext(ctx, c.node.Call(method), body)
	if errors.Is(err, nats.ErrNoResponders) {
		return answer{}, errors.New("no server is there")
	}
	if err != nil {
		return answer{}, err
	}
	var a answer
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return answer{}, fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	switch {
	case a.Status != nil:
		return answer{}, &apierrors.StatusError{ErrStatus: *a.Status}
	case a.Error != "":
		return answer{}, errors.New(a.Error)
	}
	return a, nil
}
