package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"
)

// externalSubject is a log in a NATS that is not part of Reprise, whose process and
// disk are tortured, with a committer and a projection on another machine, which live
// through that and have faults of their own.
type externalSubject struct {
	*logSubject
	home   string
	beside *process // the committer
}

func newExternalSubject(home string) *externalSubject {
	s := &externalSubject{logSubject: newLogSubject(false), home: home}
	s.at = freeAddress()
	return s
}

// start implements subject.
func (s *externalSubject) start(dir string) (*process, error) {
	cmd, err := role("nats", dir, s.at)
	if err != nil {
		return nil, err
	}
	return startProcess(cmd)
}

// ready implements subject. A committer that has ended is started again.
func (s *externalSubject) ready(ctx context.Context, p *process, _ string) error {
	if _, err := p.line(ctx); err != nil {
		return err
	}
	if s.beside != nil && s.beside.running() {
		return nil
	}
	cmd, err := role("commit", filepath.Join(s.home, "committer"), s.at)
	if err != nil {
		return err
	}
	if s.beside, err = startProcess(cmd); err != nil {
		return err
	}
	_, err = s.beside.line(ctx)
	return err
}

// load implements subject. In some rounds the committer is killed.
func (s *externalSubject) load(ctx context.Context, name string, clients int, random *rand.Rand) (func(dead bool), error) {
	stop, err := s.logSubject.load(ctx, name, clients, random)
	if err != nil || random.IntN(3) != 0 {
		return stop, err
	}
	killed := make(chan error, 1)
	after := time.Duration(random.Int64N(int64(time.Second)))
	go func() {
		pause(ctx, after)
		killed <- s.beside.end()
	}()
	return func(dead bool) {
		stop(dead)
		// What is dying is not taken for alive; if it does not die, it is.
		<-killed
	}, nil
}

// check implements subject.
func (s *externalSubject) check(ctx context.Context, _ *process, dir string) error {
	if err := s.compare(ctx, s.beside, dir); err != nil {
		return fmt.Errorf("%w\nthe committer: %s", err, s.beside.errors)
	}
	return nil
}

// close implements subject.
func (s *externalSubject) close() error {
	if s.beside == nil {
		return nil
	}
	return s.beside.end()
}
