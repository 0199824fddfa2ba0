package jetstream

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/reprise-run/reprise/events/durable"
)

// owner is the user that this process itself connects as; it may do all.
const owner = "server"

// Permissions are the subjects, wildcards included, that a user may publish and
// subscribe to. What is not named is denied.
type Permissions struct {
	Publish, Subscribe []string
}

// Users are those who may connect to an embedded server: each has an nkey, whose
// seed is kept in a file, and permissions, which are given anew at each start.
type Users struct {
	dir string

	mu     sync.Mutex
	byKey  map[string]*server.User // public key -> user
	byName map[string]nkeys.KeyPair
	// Subscribers bring keys or passwords of their own.
	byPassword map[string]*server.User
	logins     map[string]login
}

func openUsers(dir string) (*Users, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory of NATS users: %w", err)
	}
	u := &Users{dir: dir, byKey: map[string]*server.User{}, byName: map[string]nkeys.KeyPair{},
		byPassword: map[string]*server.User{}, logins: map[string]login{}}
	_, err := u.add(owner, nil)
	return u, err
}

// AddUser lets a user connect and returns the file of the seed of its key, which
// is made if there is none; to connect with it, see WithSeed. A user that is
// there already gets the new permissions at its next connection.
func (u *Users) AddUser(name string, may Permissions) (seedFile string, err error) {
	if name == owner {
		return "", fmt.Errorf("the user %q is the server itself", name)
	}
	return u.add(name, &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: orNone(may.Publish)},
		Subscribe: &server.SubjectPermission{Allow: orNone(may.Subscribe)},
	})
}

// orNone keeps an empty list from meaning "all".
func orNone(subjects []string) []string {
	if len(subjects) == 0 {
		return []string{"_NONE"}
	}
	return subjects
}

func (u *Users) add(name string, may *server.Permissions) (string, error) {
	if name == "" || strings.ContainsAny(name, "/\x00") || strings.HasPrefix(name, ".") {
		return "", fmt.Errorf("%q cannot name a NATS user", name)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	file := filepath.Join(u.dir, name+".nk")
	pair, err := loadOrMakeKey(file)
	if err != nil {
		return "", err
	}
	public, err := pair.PublicKey()
	if err != nil {
		return "", fmt.Errorf("the key in %s is of no use: %w", file, err)
	}
	u.byName[name] = pair
	u.byKey[public] = &server.User{Username: name, Permissions: may}
	return file, nil
}

func loadOrMakeKey(file string) (nkeys.KeyPair, error) {
	seed, err := os.ReadFile(file)
	if err == nil {
		pair, err := nkeys.FromSeed(bytes.TrimSpace(seed))
		if err != nil {
			return nil, fmt.Errorf("the key in %s is damaged (%w): delete the file, and the user gets a new one", file, err)
		}
		return pair, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot read a NATS user's key: %w", err)
	}
	pair, err := nkeys.CreateUser()
	if err == nil {
		seed, err = pair.Seed()
	}
	if err == nil {
		err = durable.Replace(file, append(seed, '\n'), 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make a key for a NATS user: %w", err)
	}
	return pair, nil
}

// Check is the NATS server's: it asks whether a client may connect.
func (u *Users) Check(c server.ClientAuthentication) bool {
	user := u.find(c)
	if user == nil {
		return false
	}
	u.arrive(user)
	// Whoever is registered before an expulsion is found by it.
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.user(c) != user {
		return false
	}
	c.RegisterUser(user)
	return true
}

// find returns the user that a client has shown to be, if any.
func (u *Users) find(c server.ClientAuthentication) *server.User {
	u.mu.Lock()
	user := u.user(c)
	u.mu.Unlock()
	if user != nil && c.GetOpts().Nkey != "" && !signed(c.GetOpts(), c.GetNonce()) {
		return nil
	}
	return user
}

// user returns the user that a client says to be. The caller holds the lock.
func (u *Users) user(c server.ClientAuthentication) *server.User {
	o := c.GetOpts()
	switch {
	case o.Nkey != "":
		return u.byKey[o.Nkey]
	case o.Username != "":
		return u.known(o.Username, o.Password)
	}
	return nil
}

// signed says whether a client has the key that it names.
func signed(o *server.ClientOpts, nonce []byte) bool {
	key, err := nkeys.FromPublicKey(o.Nkey)
	if err != nil {
		return false
	}
	sig, err := base64.RawURLEncoding.DecodeString(o.Sig)
	if err != nil {
		sig, err = base64.StdEncoding.DecodeString(o.Sig)
	}
	return err == nil && key.Verify(nonce, sig) == nil
}

// option is the credentials of a user of this process.
func (u *Users) option(name string) (nats.Option, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	pair := u.byName[name]
	public, err := pair.PublicKey()
	if err != nil {
		return nil, err
	}
	return nats.Nkey(public, pair.Sign), nil
}

// WithSeed is the option by which a user connects with the key that AddUser made.
func WithSeed(file string) (nats.Option, error) {
	opt, err := nats.NkeyOptionFromSeed(file)
	if err != nil {
		return nil, fmt.Errorf("cannot use the key in %s: %w", file, err)
	}
	return opt, nil
}
