package storage

import (
	"fmt"
	"strings"
	"sync"
	_ "unsafe" // for go:linkname

	"go.etcd.io/etcd/client/v3/kubernetes"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/feature"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	_ "k8s.io/apiserver/pkg/storage/storagebackend/factory" // holds the variable that is linked below
)

// newETCD3Client is how upstream's storage factory makes its clients: for every
// resource, and for the health checks. Handing in our own is the one seam on
// which the API server rests; all of upstream's assembly above stays as it is.
//
//go:linkname newETCD3Client k8s.io/apiserver/pkg/storage/storagebackend/factory.newETCD3Client
var newETCD3Client func(storagebackend.TransportConfig) (*kubernetes.Client, error)

// scheme marks server addresses that stand for a Backend of this process.
const scheme = "reprise://"

// backends make the clients that upstream may ask for by an address. Upstream
// passes nothing but an address through, so this must be known to the process.
var backends = struct {
	sync.Mutex
	byAddress map[string]func() *kubernetes.Client
}{byAddress: map[string]func() *kubernetes.Client{}}

func init() {
	dial := newETCD3Client
	newETCD3Client = func(c storagebackend.TransportConfig) (*kubernetes.Client, error) {
		if len(c.ServerList) != 1 || !strings.HasPrefix(c.ServerList[0], scheme) {
			return dial(c)
		}
		backends.Lock()
		client, ok := backends.byAddress[c.ServerList[0]]
		backends.Unlock()
		if !ok {
			return nil, fmt.Errorf("no storage is registered as %s", c.ServerList[0])
		}
		return client(), nil
	}
	feature.DefaultFeatureSupportChecker = checker{feature.DefaultFeatureSupportChecker}
}

// Register makes the backend reachable for upstream's storage factory and
// returns the server address to configure, and what undoes it.
func (b *Backend) Register(name string) (address string, unregister func()) {
	return Register(name, b.Client)
}

// Register does the same for any maker of clients.
func Register(name string, client func() *kubernetes.Client) (address string, unregister func()) {
	address = scheme + name
	backends.Lock()
	defer backends.Unlock()
	backends.byAddress[address] = client
	return address, func() {
		backends.Lock()
		defer backends.Unlock()
		delete(backends.byAddress, address)
	}
}

// checker knows what our clients can do, which upstream would ask an etcd for.
type checker struct{ feature.FeatureSupportChecker }

// Supports implements feature.FeatureSupportChecker.
func (checker) Supports(f storage.Feature) bool { return f == storage.RequestWatchProgress }
