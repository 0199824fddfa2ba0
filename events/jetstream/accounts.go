package jetstream

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"

	"github.com/nats-io/nats-server/v2/server"
)

// login is by what a subscriber is known: the public half of a key, or the hash
// of a password.
type login struct {
	name, key, password string
	// begin is called before the first of its connections is let in.
	begin func()
}

// admit lets a user with a login connect from now on.
func (u *Users) admit(l login, as *server.User) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.logins[l.name] = l
	if l.key != "" {
		u.byKey[l.key] = as
		return
	}
	u.byPassword[l.name] = as
}

// expel keeps a user with a login from connecting again.
func (u *Users) expel(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.byKey, u.logins[name].key)
	delete(u.byPassword, name)
	delete(u.logins, name)
}

// known finds who says that name and password. The caller holds the lock.
func (u *Users) known(name, password string) *server.User {
	sum := sha256.Sum256([]byte(password))
	given := hex.EncodeToString(sum[:])
	if subtle.ConstantTimeCompare([]byte(given), []byte(u.logins[name].password)) != 1 {
		return nil
	}
	return u.byPassword[name]
}

// mostConnections is how many a subscriber may have, so that none takes those of
// the nodes.
const mostConnections = 32

// crowded says whether a user has as many connections as it may. The caller holds
// the lock, under which connections are registered.
func crowded(user *server.User) bool {
	return user.Account != nil && user.Account.NumConnections() >= mostConnections
}

// arrive prepares for the connection of a user who has no other.
func (u *Users) arrive(user *server.User) {
	u.mu.Lock()
	begin := u.logins[user.Username].begin
	u.mu.Unlock()
	if begin != nil && user.Account != nil && user.Account.NumConnections() == 0 {
		begin()
	}
}

// account returns an account in which these subjects of ours lead to us, and
// nothing else does. Answers go back to where they were asked for.
func (s *Server) account(name string, subjects []string) (*server.Account, error) {
	account, isNew := s.ns.LookupOrRegisterAccount(name)
	if !isNew {
		return account, nil
	}
	ours := s.ns.GlobalAccount()
	for _, subject := range subjects {
		// One request for events has many answers.
		if err := ours.AddServiceExportWithResponse(subject, server.Streamed, []*server.Account{account}); err != nil {
			return nil, fmt.Errorf("exporting %s: %w", subject, err)
		}
		if err := account.AddServiceImport(ours, subject, subject); err != nil {
			return nil, fmt.Errorf("importing %s: %w", subject, err)
		}
	}
	return account, nil
}

// connections are the ids of those that an account has.
func (s *Server) connections(account string) ([]uint64, error) {
	open, err := s.ns.Connz(&server.ConnzOptions{Account: account, Limit: 1 << 16})
	if err != nil {
		return nil, fmt.Errorf("cannot tell who is connected: %w", err)
	}
	ids := make([]uint64, 0, len(open.Conns))
	for _, c := range open.Conns {
		ids = append(ids, c.Cid)
	}
	return ids, nil
}

// disconnect ends the connections of an account.
func (s *Server) disconnect(account string) error {
	ids, err := s.connections(account)
	for _, id := range ids {
		// One that has ended by itself meanwhile is as good.
		_ = s.ns.DisconnectClientByID(id)
	}
	return err
}
