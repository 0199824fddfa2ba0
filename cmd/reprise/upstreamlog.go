package main

import (
	"context"
	"log/slog"
	"strings"
)

// upstreamLog takes what upstream's libraries log and lowers to debug what they
// call an error although every healthy cluster of ours has it: a person who sees
// an error should have something to do about it.
type upstreamLog struct{ slog.Handler }

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
	if r.Level > slog.LevelDebug && isHealthy(r) {
		if r.Level = slog.LevelDebug; !l.Enabled(ctx, r.Level) {
			return nil
		}
	}
	return l.Handler.Handle(ctx, r)
}

// WithAttrs keeps the wrapper around loggers made from this one.
func (l upstreamLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return upstreamLog{l.Handler.WithAttrs(attrs)}
}

// WithGroup keeps the wrapper around loggers made from this one.
func (l upstreamLog) WithGroup(name string) slog.Handler {
	return upstreamLog{l.Handler.WithGroup(name)}
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
