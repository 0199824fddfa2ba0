package sim

import (
	"fmt"
	"iter"
	"runtime/debug"
	"time"
)

// host is a machine, or a program on one: it can be down, which ends all that
// runs on it, or frozen, and it can be cut off from others.
type host struct {
	w      *world
	name   string
	life   int // counts its starts
	up     bool
	frozen time.Duration // until when it does nothing
	cut    time.Duration // until when nothing reaches it or leaves it
	order  []*process
}

func (w *world) host(name string) host { return host{w: w, name: name} }

// start lets things happen on the host again.
func (h *host) start() { h.life, h.up = h.life+1, true }

// stop ends all that runs on the host, in the middle of what it does.
func (h *host) stop() {
	h.up = false
	h.life++
	running := h.order
	h.order = nil
	for _, p := range running {
		p.kill()
	}
}

// after puts something on the agenda that only happens if the host lives on until
// then; while it is frozen, it waits.
func (h *host) after(d time.Duration, do func()) {
	life := h.life
	var attempt func()
	attempt = func() {
		switch {
		case h.life != life || !h.up:
		case h.frozen > h.w.now:
			h.w.after(h.frozen-h.w.now, attempt)
		default:
			do()
		}
	}
	h.w.after(d, attempt)
}

// every has something done again and again while the host lives.
func (h *host) every(d time.Duration, do func()) {
	h.after(d, func() {
		do()
		h.every(d, do)
	})
}

// send carries a message to another host, unless it gets lost on the way.
func (h *host) send(to *host, deliver func()) {
	w := h.w
	if h.cut > w.now || w.chance(w.noise.Lost) {
		return
	}
	delay := w.between(100*time.Microsecond, time.Millisecond)
	if w.chance(w.noise.Slow) {
		delay = w.between(time.Millisecond, 12*time.Second)
	}
	w.after(delay, func() {
		if to.up && to.cut <= w.now {
			to.after(0, deliver)
		}
	})
}

// process is code that waits in its middle: a coroutine, of which at most one runs
// at a time, so that all is still one thread of control. It belongs to a host and
// ends with it.
type process struct {
	host  *host
	next  func() (struct{}, bool)
	end   func()
	yield func(struct{}) bool
	dead  bool
	asked []*question // what it has proposed and was not told of
}

// killed is what unwinds a process whose host has stopped.
type killed struct{}

// run starts a process on the host after a time.
func (h *host) run(d time.Duration, f func()) {
	h.after(d, func() { h.begin(f) })
}

func (h *host) begin(f func()) *process {
	p := &process{host: h}
	p.next, p.end = iter.Pull(func(yield func(struct{}) bool) {
		p.yield = yield
		defer func() {
			switch r := recover().(type) {
			case nil, killed:
			default:
				h.w.fail("no part panics", "on %s: %v\n%s", h.name, r, debug.Stack())
			}
			p.gone()
		}()
		f()
	})
	h.order = append(h.order, p)
	p.resume()
	return p
}

func (p *process) gone() {
	p.dead = true
	for len(p.asked) > 0 {
		p.host.w.close(p.asked[0])
	}
	for i, o := range p.host.order {
		if o == p {
			p.host.order = append(p.host.order[:i:i], p.host.order[i+1:]...)
			return
		}
	}
}

// resume lets the process go on until it waits or ends.
func (p *process) resume() {
	if !p.dead {
		p.enter(func() { p.next() })
	}
}

func (p *process) kill() {
	if p.dead {
		return
	}
	p.dead = true
	p.enter(p.end)
}

// enter runs something of the process, which is the one that runs meanwhile.
func (p *process) enter(run func()) {
	w := p.host.w
	outer := w.inside
	w.inside = p
	run()
	w.inside = outer
}

// pause waits, in a process, until somebody resumes it.
func (w *world) pause() {
	p := w.inside
	if p == nil {
		panic(fmt.Sprintf("at %s something waits that is no process", w.now))
	}
	if p.dead || !p.yield(struct{}{}) {
		panic(killed{})
	}
}

// bell is what a process waits for. It rings once.
type bell struct {
	rung    bool
	waiting *process
}

func (b *bell) ring() {
	if b.rung {
		return
	}
	b.rung = true
	if p := b.waiting; p != nil {
		p.host.after(0, p.resume)
	}
}

// await waits until the bell rings.
func (w *world) await(b *bell) {
	for !b.rung {
		b.waiting = w.inside
		w.pause()
	}
}

// sleep waits for a time.
func (w *world) sleep(d time.Duration) {
	b := &bell{}
	w.inside.host.after(d, b.ring)
	w.await(b)
}

// threads are the runner's, on a host.
type threads struct {
	*host
	ended func() // called when what Go started has ended
}

// Go implements runner.Threads.
func (t threads) Go(f func()) {
	t.run(t.w.between(0, 200*time.Microsecond), func() {
		f()
		t.ended()
	})
}

// All implements runner.Threads.
func (t threads) All(n, limit int, f func(i int)) {
	if n == 0 {
		return
	}
	left, next := n, 0
	done := &bell{}
	var one func()
	one = func() {
		i := next
		next++
		t.run(t.w.between(0, 50*time.Microsecond), func() {
			f(i)
			if left--; left == 0 {
				done.ring()
			} else if next < n {
				one()
			}
		})
	}
	for range min(n, limit) {
		one()
	}
	t.w.await(done)
}

// sendInOrder is send for messages of one connection: none overtakes another, and
// last is when the one before arrives.
func (h *host) sendInOrder(to *host, last *time.Duration, deliver func()) {
	w := h.w
	if h.cut > w.now || w.chance(w.noise.Lost) {
		return
	}
	delay := w.between(100*time.Microsecond, time.Millisecond)
	if w.chance(w.noise.Slow) {
		delay = w.between(time.Millisecond, 12*time.Second)
	}
	*last = max(*last, w.now+delay)
	w.after(*last-w.now, func() {
		if to.up && to.cut <= w.now {
			to.after(0, deliver)
		}
	})
}
