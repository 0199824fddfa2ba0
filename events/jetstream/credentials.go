package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/reprise-run/reprise/events"
)

// Credentials keep the credentials of nodes, and let those who have their keys
// connect to an embedded server.
type Credentials struct {
	server  *Server
	nc      *nats.Conn
	records jetstream.KeyValue
	may     func(events.Credential) (Permissions, error)

	mu sync.Mutex // held while one is admitted
}

// OpenCredentials lets those connect that were admitted before. may says which
// subjects a credential opens. What is wrong with one of them is told to the log and
// does not concern the others.
func OpenCredentials(ctx context.Context, on *Server, nc *nats.Conn, cfg Config, may func(events.Credential) (Permissions, error), log *slog.Logger) (*Credentials, error) {
	js, cfg, err := cfg.on(nc)
	if err != nil {
		return nil, err
	}
	c := &Credentials{server: on, nc: nc, may: may}
	c.records, err = js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: cfg.Prefix + "-credentials", Description: "Who may speak for which nodes.",
		Storage: jetstream.FileStorage, Replicas: cfg.Replicas, History: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot open the credentials of nodes: %w", err)
	}
	names, err := c.records.Keys(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		return nil, fmt.Errorf("cannot list the credentials of nodes: %w", err)
	}
	for _, name := range names {
		entry, err := c.records.Get(ctx, name)
		var credential events.Credential
		if err == nil {
			err = json.Unmarshal(entry.Value(), &credential)
		}
		if err == nil {
			err = c.let(credential)
		}
		if err != nil {
			log.Warn("a credential of nodes is of no use", "credential", name, "why", err)
		}
	}
	return c, nil
}

// Admit keeps a credential, in place of an earlier one of its name, whose connections
// end, and lets whoever has its key connect from now on.
func (c *Credentials) Admit(ctx context.Context, credential events.Credential) error {
	if !nkeys.IsValidPublicUserKey(credential.Key) {
		return fmt.Errorf("%q is not the public key of a user", credential.Key)
	}
	if len(credential.Nodes) == 0 {
		return errors.New("the credential names no node")
	}
	if _, err := c.may(credential); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.free(credential); err != nil {
		return err
	}
	raw, err := json.Marshal(credential)
	if err != nil {
		return err
	}
	if _, err := c.records.Put(ctx, credential.Name, raw); err != nil {
		return fmt.Errorf("cannot keep the credential %s: %w", credential.Name, err)
	}
	if err := confirmSync(c.nc, c.records.Bucket()); err != nil {
		return err
	}
	return c.let(credential)
}

// loginOf is the name of the user that a credential makes. Subscribers' names have no
// dot, so that none of them is meant.
func loginOf(c events.Credential) string { return "nodes." + c.Name }

// free fails if somebody else has the key of a credential: it would speak for one of
// the two only.
func (c *Credentials) free(credential events.Credential) error {
	if by := c.server.holder(credential.Key); by != "" && by != loginOf(credential) {
		return fmt.Errorf("the key of the credential %s is that of %s: make another", credential.Name, by)
	}
	return nil
}

func (c *Credentials) let(credential events.Credential) error {
	may, err := c.may(credential)
	if err == nil {
		err = c.free(credential)
	}
	if err != nil {
		return err
	}
	name := loginOf(credential)
	earlier := c.server.expel(name)
	c.server.admit(login{name: name, key: credential.Key}, &server.User{Username: name, Permissions: &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: orNone(may.Publish)},
		Subscribe: &server.SubjectPermission{Allow: orNone(may.Subscribe)},
	}})
	if earlier.key == "" {
		return nil
	}
	// Its connections have the subjects that the earlier credential opened.
	if err := c.server.disconnectKey(earlier.key); err != nil {
		return fmt.Errorf("cannot end the connections of the earlier credential %s: %w", credential.Name, err)
	}
	return nil
}
