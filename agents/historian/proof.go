package historian

import (
	"context"

	"github.com/nats-io/nats.go"
)

func (s *server) checkpoint(*nats.Msg) (*nats.Msg, error) {
	signed, err := s.Checkpoint(s.ctx)
	if err != nil {
		return nil, err
	}
	reply := nats.NewMsg("")
	reply.Data = signed
	return reply, nil
}

// Checkpoint returns a signed checkpoint of the log as it is now.
func (c *Client) Checkpoint(ctx context.Context) ([]byte, error) {
	m, err := c.ask(ctx, methodCheckpoint, nil)
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}
