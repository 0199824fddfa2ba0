package seal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// patience is how long a rotation may take.
const patience = 5 * time.Minute

// Permissions are the subjects that an operator may publish to.
func Permissions(prefix string) (publish []string) { return []string{prefix + "-seal.>"} }

func rotateSubject(prefix string) string { return prefix + "-seal.rotate" }

// rotateAnswer is how a rotation went.
type rotateAnswer struct {
	Rotation
	Error string `json:",omitempty"`
}

// Serve has rotate called when an operator asks for it, until stop is called, which
// waits for one that is under way.
func Serve(nc *nats.Conn, prefix string, rotate func(context.Context) (Rotation, error)) (stop func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	// Messages of one subscription come one after the other: so do rotations.
	idle := make(chan struct{}, 1)
	idle <- struct{}{}
	sub, err := nc.Subscribe(rotateSubject(prefix), func(m *nats.Msg) {
		select {
		case <-idle:
		case <-ctx.Done():
			return
		}
		defer func() { idle <- struct{}{} }()
		// As everywhere: the one who asks names the subject of the answer, and the
		// server may publish on all.
		if !strings.HasPrefix(m.Reply, nats.InboxPrefix) {
			return
		}
		var a rotateAnswer
		var err error
		if a.Rotation, err = rotate(ctx); err != nil {
			a.Error = err.Error()
		}
		text, err := json.Marshal(a)
		if err == nil {
			_ = m.Respond(text) // Who does not hear it asks again.
		}
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("cannot serve the rotation of cluster keys: %w", err)
	}
	return func() {
		_ = sub.Unsubscribe() // A closed connection has no subscriptions.
		cancel()
		<-idle
	}, nil
}

// AskToRotate asks a server to rotate, and waits until it has.
func AskToRotate(ctx context.Context, nc *nats.Conn, prefix string) (Rotation, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, rotateSubject(prefix), nil)
	if err != nil {
		return Rotation{}, fmt.Errorf("the server has not rotated the cluster key: %w", err)
	}
	var a rotateAnswer
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return Rotation{}, fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	if a.Error != "" {
		return a.Rotation, errors.New(a.Error)
	}
	return a.Rotation, nil
}
