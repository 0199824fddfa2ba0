package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

// serverLog gives NATS's log to slog, and remembers what was fatal: NATS would
// end the process.
type serverLog struct {
	to *slog.Logger
	// errors gets one for each time that there were errors.
	errors chan struct{}
	failed chan struct{}
	once   sync.Once
	reason string // set before failed is closed
}

func newServerLog(to *slog.Logger) *serverLog {
	if to == nil {
		to = slog.New(slog.DiscardHandler)
	}
	return &serverLog{to: to.With("part", "nats"), errors: make(chan struct{}, 1), failed: make(chan struct{})}
}

func (l *serverLog) failure() error {
	select {
	case <-l.failed:
		return errors.New("NATS cannot start: " + l.reason)
	default:
		return nil
	}
}

func (l *serverLog) log(level slog.Level, format string, v []any) {
	if l.to.Enabled(context.Background(), level) {
		l.to.Log(context.Background(), level, fmt.Sprintf(format, v...))
	}
}

// Noticef, Warnf, Debugf and Tracef are the server's Logger's. What NATS
// finds notable is detail here.
func (l *serverLog) Noticef(format string, v ...any) { l.log(slog.LevelDebug, format, v) }
func (l *serverLog) Warnf(format string, v ...any)   { l.log(slog.LevelWarn, format, v) }
func (l *serverLog) Debugf(format string, v ...any)  { l.log(slog.LevelDebug, format, v) }
func (l *serverLog) Tracef(format string, v ...any)  { l.log(slog.LevelDebug, format, v) }

// Errorf is the server's Logger's.
func (l *serverLog) Errorf(format string, v ...any) {
	l.log(slog.LevelError, format, v)
	select {
	case l.errors <- struct{}{}:
	default:
	}
}

// Fatalf is called when the server cannot go on.
func (l *serverLog) Fatalf(format string, v ...any) {
	l.log(slog.LevelError, format, v)
	l.once.Do(func() {
		l.reason = fmt.Sprintf(format, v...)
		close(l.failed)
	})
}
