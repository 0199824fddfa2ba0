package jetstream

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
)

// login is by what a subscriber is known: the public half of a key, or the hash
// of a password.
type login struct {
	name, key, password string
	// alone says that it may have one connection, of which a new one takes the place.
	alone bool
	// begin is called before the first of its connections is let in, and before each
	// if it is to be alone.
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

// expel keeps a user with a login, which it returns, from connecting again.
func (u *Users) expel(name string) login {
	u.mu.Lock()
	defer u.mu.Unlock()
	gone := u.logins[name]
	delete(u.byKey, gone.key)
	delete(u.byPassword, name)
	delete(u.logins, name)
	return gone
}

// holder is the name of the user who has a key, "" if nobody has.
func (u *Users) holder(key string) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if user := u.byKey[key]; user != nil {
		return user.Username
	}
	return ""
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

// What a subscriber may have and send, so that none takes what nodes need. NATS
// holds them to it, and tells them.
const (
	// mostConnections is how many connections it may have, unless it reads in order.
	mostConnections = 32
	// mostSubscriptions is how many subscriptions each of these may have. A client
	// needs one, or one for each request that it has under way.
	mostSubscriptions = 64
	// mostInMessage is how many bytes it may send at once: a request, or an
	// acknowledgement.
	mostInMessage = 8 << 10
)

// arrive prepares for the connection of a user who has no other, or is to have none.
func (u *Users) arrive(user *server.User) {
	u.mu.Lock()
	login := u.logins[user.Username]
	u.mu.Unlock()
	if login.begin != nil && user.Account != nil && (login.alone || user.Account.NumConnections() == 0) {
		login.begin()
	}
}

// account returns an account in which these subjects of ours lead to us, and
// nothing else does, for so many connections. Answers go back to where they were
// asked for.
func (s *Server) account(name string, subjects []string, connections int) (*server.Account, error) {
	account, isNew := s.ns.LookupOrRegisterAccount(name)
	if !isNew {
		return account, nil
	}
	ours := s.ns.GlobalAccount()
	if err := s.limit(account, ours, connections); err != nil {
		return nil, err
	}
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

// nobody is a subject of ours to which nobody listens.
const nobody = "_nobody"

// limit sets what a new account may have and send, for which NATS wants claims. It
// then also leads what is asked of JetStream to an answer that the account has none;
// unless it has a way already for what is asked first, which it is not to be allowed.
func (s *Server) limit(account, ours *server.Account, connections int) error {
	if err := ours.AddServiceExport(nobody, []*server.Account{account}); err != nil {
		return fmt.Errorf("exporting %s: %w", nobody, err)
	}
	claims := jwt.NewAccountClaims(account.Name)
	claims.Limits.Conn, claims.Limits.Subs, claims.Limits.Payload = int64(connections), mostSubscriptions, mostInMessage
	claims.Imports.Add(&jwt.Import{
		Type: jwt.Service, Account: ours.Name, Subject: nobody, LocalSubject: server.JSApiAccountInfo,
	})
	s.ns.UpdateAccountClaims(account, claims)
	return nil
}

// connections are the ids of those that an account has.
func (s *Server) connections(account string) ([]uint64, error) {
	return s.open(server.ConnzOptions{Account: account})
}

// open are the ids of the connections that are asked for.
func (s *Server) open(which server.ConnzOptions) ([]uint64, error) {
	which.Limit = 1 << 16
	open, err := s.ns.Connz(&which)
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
	s.end(ids)
	return err
}

// disconnectKey ends the connections of who has a key, in an account that others are
// in as well.
func (s *Server) disconnectKey(key string) error {
	ids, err := s.open(server.ConnzOptions{Username: true, User: key})
	s.end(ids)
	return err
}

func (s *Server) end(ids []uint64) {
	for _, id := range ids {
		// One that has ended by itself meanwhile is as good.
		_ = s.ns.DisconnectClientByID(id)
	}
}
