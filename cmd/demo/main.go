// Command demo is a small web server to try Reprise with: it says who it is,
// and misbehaves when asked to. It is built into the demo image, and needs
// nothing of Reprise.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(log.LstdFlags | log.LUTC)
	s := server{exit: os.Exit}
	address := flag.String("address", ":8080", "where to listen")
	flag.StringVar(&s.version, "version", os.Getenv("DEMO_VERSION"), "the version to greet with ($DEMO_VERSION)")
	start := flag.Duration("start-after", 0, "how long to stay unready after the start")
	linger := flag.Duration("linger", 0, "how long to go on serving after SIGTERM, at first unready")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	time.AfterFunc(*start, func() { s.ready.Store(true) })
	web := &http.Server{Addr: *address, Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		log.Print("asked to stop")
		s.ready.Store(false)
		time.Sleep(*linger)
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = web.Shutdown(grace)
	}()
	log.Printf("demo %s listens on %s", s.version, *address)
	if err := web.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatalf("demo cannot serve: %v", err)
	}
	<-stopped
}

// server answers the requests; exit ends the process.
type server struct {
	version string
	ready   atomic.Bool
	exit    func(code int)
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		host, _ := os.Hostname()
		fmt.Fprintf(w, "Hello from demo %s on %s\n", s.version, host)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("POST /readyz", s.setReady)
	mux.HandleFunc("GET /env", func(w http.ResponseWriter, _ *http.Request) {
		for _, variable := range slices.Sorted(slices.Values(os.Environ())) {
			fmt.Fprintln(w, variable)
		}
	})
	mux.HandleFunc("/exit", s.leave)
	mux.HandleFunc("/oom", func(http.ResponseWriter, *http.Request) { eat() })
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		log.Printf("%s %s %s", r.RemoteAddr, r.Method, r.URL)
		mux.ServeHTTP(w, r)
	})
}

func (s *server) readyz(w http.ResponseWriter, _ *http.Request) {
	if !s.ready.Load() {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// setReady takes POST /readyz?ready=false, to try readiness probes with.
func (s *server) setReady(w http.ResponseWriter, r *http.Request) {
	ready, err := strconv.ParseBool(r.URL.Query().Get("ready"))
	if err != nil {
		http.Error(w, "want ?ready=true or ?ready=false", http.StatusBadRequest)
		return
	}
	s.ready.Store(ready)
	fmt.Fprintln(w, "ready:", ready)
}

// leave takes /exit?code=N.
func (s *server) leave(w http.ResponseWriter, r *http.Request) {
	code := 0
	if text := r.URL.Query().Get("code"); text != "" {
		var err error
		if code, err = strconv.Atoi(text); err != nil || code < 0 || code > 255 {
			http.Error(w, "want ?code=N with N from 0 to 255", http.StatusBadRequest)
			return
		}
	}
	fmt.Fprintf(w, "exiting with %d\n", code)
	_ = http.NewResponseController(w).Flush()
	log.Printf("exiting with %d", code)
	s.exit(code)
}

// eat takes memory and touches it until somebody stops us.
func eat() {
	log.Print("eating memory")
	var held [][]byte
	for {
		block := make([]byte, 8<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		held = append(held, block)
		if len(held)%16 == 0 {
			log.Printf("ate %d MiB", len(held)*8)
		}
	}
}
