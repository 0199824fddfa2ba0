package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync/atomic"

	"k8s.io/klog/v2"
)

// upstreamLog takes what upstream's libraries log and lowers to debug what they
// call an error although every healthy cluster of ours has it: a person who sees
// an error should have something to do about it.
type upstreamLog struct {
	slog.Handler
	// last is the newest message. If it is fatal, only the call to exit that
	// follows says so: its level is that of news.
	last *atomic.Pointer[string]
}

// takeUpstreamLog has upstream log to a handler. Upstream also ends the process
// where it cannot go on, and takes for such a case that it is told to stop before
// it has started: after the end of life only the goroutine ends that asked.
func takeUpstreamLog(life context.Context, to slog.Handler, stderr io.Writer) {
	l := upstreamLog{to, new(atomic.Pointer[string])}
	klog.SetSlogLogger(slog.New(l))
	klog.OsExit = func(code int) {
		if life.Err() != nil {
			runtime.Goexit()
		}
		why := "it does not say why"
		if last := l.last.Load(); last != nil {
			why = *last
		}
		fmt.Fprintf(stderr, "reprise: upstream's API server cannot go on: %s\n", why)
		os.Exit(code)
	}
}

// Enabled lets through what may turn out to be fatal.
func (l upstreamLog) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || l.Handler.Enabled(ctx, level)
}

// healthy are parts of messages, each with the reason why it is no error here.
var healthy = []string{
	// Says that we gave no list of metric labels. None is needed.
	"The manifest file is empty, ignoring.",
	// Says so also where there are no endpoints to remove.
	"Found stale data, removed previous endpoints on kubernetes service",
	// Upstream's controllers all start at once, and try again once that
	// namespace is made, which is within the first second of a cluster's life.
	`namespaces "kube-system" not found`,
	// Upstream waits for its caches until it is told to stop, and only then says so.
	"Unable to sync caches",
	"imed out waiting for caches to sync",
	// kubectl ends the WebSocket of an exec, cp or port-forward by hanging up.
	"Error on socket receive",
	"Unable to write frame",
	"Error proxying data from client to backend",
}

// Handle passes a record on, or takes it for what it is.
func (l upstreamLog) Handle(ctx context.Context, r slog.Record) error {
	l.last.Store(&r.Message)
	if r.Level > slog.LevelDebug && isHealthy(r) {
		r.Level = slog.LevelDebug
	}
	if !l.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return l.Handler.Handle(ctx, r)
}

// WithAttrs keeps the wrapper around loggers made from this one.
func (l upstreamLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return upstreamLog{l.Handler.WithAttrs(attrs), l.last}
}

// WithGroup keeps the wrapper around loggers made from this one.
func (l upstreamLog) WithGroup(name string) slog.Handler {
	return upstreamLog{l.Handler.WithGroup(name), l.last}
}

func isHealthy(r slog.Record) bool {
	found := contains(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		found = found || a.Key == "err" && contains(a.Value.String())
		return !found
	})
	return found
}

func contains(text string) bool {
	for _, part := range healthy {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}
