package jetstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events/durable"
)

// ServerOptions configure the NATS server inside this process.
type ServerOptions struct {
	// Dir is where it keeps everything. It is made if it is not there.
	Dir string
	// Listen is a TCP address for nodes and integrators; port 0 takes any free
	// one. Empty: only this process can connect.
	Listen string
	// TLS is for the listener. Without it connections are in the clear.
	TLS *tls.Config
	// Name is the server's name in logs; "reprise" if empty.
	Name string
	// Logger gets the server's warnings and errors, and at level debug its
	// notices. None: they are dropped.
	Logger *slog.Logger
	// Journal is how much is written to a file of a log's journal before the other file
	// has its turn, and the log's own files are synced; 16 MB if 0.
	Journal int64
	// UnsafeNoSync acknowledges before data is on disk. For benchmarks.
	UnsafeNoSync bool
}

// Server is a NATS server with JetStream inside this process.
type Server struct {
	*Users
	ns      *server.Server
	dir     string
	lock    *os.File
	failed  chan struct{} // closed when failure is set
	failure atomic.Pointer[error]
	health  func(*server.HealthzOptions) *server.HealthStatus // JetStream's
	confirm func(*os.File) error                              // durable.Confirm
	closed  chan struct{}                                     // closed when the server is shut down
	log     *slog.Logger

	unsafe  bool  // see ServerOptions.UnsafeNoSync
	segment int64 // see ServerOptions.Journal

	shutdown   sync.Once
	background sync.WaitGroup
	begins     sync.Mutex // held while something is begun by beside, and while closed is closed

	mu      sync.Mutex
	owns    map[string]*own
	packers map[string]*packer
}

// ready is how long a server may take to start; recovering a large log is most
// of it.
const ready = 2 * time.Minute

// StartServer starts a server and returns when clients can connect.
func StartServer(o ServerOptions) (*Server, error) {
	lock, err := takeDir(o.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{dir: o.Dir, lock: lock, failed: make(chan struct{}), closed: make(chan struct{}), confirm: durable.Confirm, unsafe: o.UnsafeNoSync, segment: o.Journal, owns: make(map[string]*own), packers: make(map[string]*packer)}
	if err = settle(o.Dir, lock); err == nil {
		err = mend(o.Dir)
	}
	if err == nil {
		err = s.start(o)
	}
	if err != nil {
		s.Shutdown()
		return nil, err
	}
	return s, nil
}

func (s *Server) start(o ServerOptions) error {
	var err error
	if s.Users, err = openUsers(filepath.Join(o.Dir, "users")); err != nil {
		return err
	}
	opts, err := natsOptions(o, s.Users)
	if err != nil {
		return err
	}
	if s.ns, err = server.NewServer(opts); err != nil {
		return fmt.Errorf("cannot start NATS: %w", err)
	}
	s.health = s.ns.Healthz
	logger := newServerLog(o.Logger)
	s.log = logger.to
	s.ns.SetLogger(logger, false, false)
	go s.watchHealth(logger.errors)
	started := make(chan bool, 1)
	go func() {
		s.ns.Start()
		started <- s.ns.ReadyForConnections(ready)
	}()
	select {
	case ok := <-started:
		// A fatal error makes Start return without the server being ready.
		if err := logger.failure(); err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("NATS did not get ready in %v in %s", ready, o.Dir)
		}
	case <-logger.failed:
		return logger.failure()
	}
	return nil
}

func natsOptions(o ServerOptions, users *Users) (*server.Options, error) {
	opts := &server.Options{
		ServerName: "reprise", NoSigs: true, DontListen: o.Listen == "",
		JetStream: true, StoreDir: o.Dir, SyncAlways: !o.UnsafeNoSync,
		// See room.
		JetStreamMaxStore: 1 << 60,
		// Kubernetes objects may have 1.5 MB, and JSON in JSON grows.
		MaxPayload: 8 << 20,
		MaxPending: 256 << 20,
		TLSConfig:  o.TLS, TLSTimeout: 5,
		CustomClientAuthentication: users, AlwaysEnableNonce: true,
	}
	if o.Name != "" {
		opts.ServerName = o.Name
	}
	if o.Listen == "" {
		return opts, nil
	}
	host, port, err := net.SplitHostPort(o.Listen)
	if err == nil {
		opts.Host = host
		opts.Port, err = strconv.Atoi(port)
	}
	if err != nil {
		return nil, fmt.Errorf("NATS cannot listen on %q: it is no host:port", o.Listen)
	}
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	// The server itself reports a taken port only to its log, and late.
	probe, err := net.Listen("tcp", o.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("NATS cannot listen on %s: another program does (see it with: ss -ltnp 'sport = :%s'); stop it or choose another address", o.Listen, port)
	}
	if err != nil {
		return nil, fmt.Errorf("NATS cannot listen on %s: %w", o.Listen, err)
	}
	return opts, probe.Close()
}

// takeDir makes the directory, checks that it can be written, and keeps other
// processes out: two servers on one log would destroy it.
func takeDir(dir string) (*os.File, error) {
	if dir == "" {
		return nil, errors.New("the log needs a data directory")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the log's data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	switch {
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS):
		return nil, fmt.Errorf("the log's data directory %s cannot be written: %w; use another, or change its owner", dir, err)
	case errors.Is(err, syscall.ENOSPC):
		return nil, fmt.Errorf("the disk of the log's data directory %s is full: make room and start again", dir)
	case err != nil:
		return nil, fmt.Errorf("cannot open the log's data directory %s: %w", dir, err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("the log's data directory %s is in use by another reprise", dir)
	}
	// A full disk shows here, before JetStream is half way through its start.
	if _, err = lock.WriteAt(make([]byte, 4096), 0); err == nil {
		err = lock.Sync()
	}
	if err == nil {
		err = durable.Confirm(lock)
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("the log's data directory %s cannot be written: %w; make room and start again", dir, err)
	}
	return lock, nil
}

// room fails if the disk has not enough left for an append of about that many
// bytes: a batch is on disk twice for a moment, and the server needs some to start
// again. JetStream has a limit of its own, but notices it in the middle of a
// batch, and then neither answers nor takes back what it stored.
func (s *Server) room(bytes int) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(s.dir, &fs); err != nil {
		return fmt.Errorf("cannot tell how much room is on the log's disk: %w", err)
	}
	block := uint64(fs.Bsize)
	margin := min(fs.Blocks*block/8, 64<<20)
	if free := fs.Bavail * block; free < margin+2*uint64(bytes) {
		return fmt.Errorf("the disk of the log, which has %s, is full but for %d MB: make room there", s.dir, free>>20)
	}
	return nil
}

// InProcessConn is NATS's: connections within the process know by it which server
// they lead to.
func (s *Server) InProcessConn() (net.Conn, error) { return s.ns.InProcessConn() }

// Connect returns a connection within the process, with all permissions.
func (s *Server) Connect(more ...nats.Option) (*nats.Conn, error) {
	key, err := s.option(owner)
	if err != nil {
		return nil, err
	}
	opts := append(connection(), nats.InProcessServer(s), nats.Name("reprise server"), key)
	nc, err := nats.Connect("", append(opts, more...)...)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to the NATS server in this process: %w", err)
	}
	return nc, nil
}

// Addr is where the server listens, "" if it does not.
func (s *Server) Addr() string {
	if a := s.ns.Addr(); a != nil {
		return a.String()
	}
	return ""
}

// Shutdown stops the server, closes its connections, and returns when all is on
// disk.
func (s *Server) Shutdown() {
	s.shutdown.Do(func() {
		s.landAll()
		s.begins.Lock()
		close(s.closed)
		s.begins.Unlock()
	})
	if s.ns != nil {
		s.ns.Shutdown()
		s.ns.WaitForShutdown()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.owns {
		o.end()
	}
	s.background.Wait()
	for _, o := range s.owns {
		o.close()
	}
	clear(s.owns)
	// Closing the file releases the lock.
	s.lock.Close()
}

// beside does something in the background, unless the server is shut down.
func (s *Server) beside(do func()) {
	s.begins.Lock()
	defer s.begins.Unlock()
	select {
	case <-s.closed:
	default:
		s.background.Go(do)
	}
}

// landAll waits a little for what is in flight. What does not come in time is in the
// journal, for the next start.
func (s *Server) landAll() {
	if !s.mu.TryLock() {
		return // who opens a log may be long at it, and is told next
	}
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, o := range s.owns {
		o.await(ctx)
	}
}

// Connect returns a connection to an external NATS system, with the credentials
// that more says.
func Connect(url string, more ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect(url, append(connection(), more...)...)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to NATS at %s: %w", url, err)
	}
	return nc, nil
}

// connection is what all connections have in common: they never give up, and
// they hold nothing back while disconnected, for what was not sent must fail
// then and not arrive later.
func connection() []nats.Option {
	return []nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond), nats.ReconnectJitter(100*time.Millisecond, time.Second),
		nats.ReconnectBufSize(-1), nats.PingInterval(15 * time.Second), nats.MaxPingsOutstanding(2),
	}
}
