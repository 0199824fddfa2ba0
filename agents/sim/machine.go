package sim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reprise-run/reprise/agents/node/plan"
	"github.com/reprise-run/reprise/events"
)

// machine is what a node runs on: a container runtime that only keeps books. It
// goes on when the agent is gone; after a power failure, what ran has ended.
type machine struct {
	host
	pods   map[string]*running
	images map[string]bool
	ids    int
}

// running is what the runtime and the disk have of a pod.
type running struct {
	uid        string
	ref        events.Ref
	sandboxes  []plan.Sandbox
	containers []plan.Container
	kept       bool
	version    int
}

func newMachine(w *world, name string) *machine {
	return &machine{host: w.host("machine of " + name), pods: map[string]*running{}, images: map[string]bool{}}
}

// list is what there is of pods, by uid.
func (m *machine) list() []*running {
	var out []*running
	for _, p := range m.pods {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *running) int { return strings.Compare(a.uid, b.uid) })
	return out
}

// fail ends everything that runs, as a loss of power does.
func (m *machine) fail() {
	m.stop()
	for _, p := range m.pods {
		for i := range p.containers {
			m.exit(p, &p.containers[i], 255, "Unknown")
		}
		for i := range p.sandboxes {
			p.sandboxes[i].Ready = false
		}
		p.version++
	}
}

func (m *machine) exit(p *running, c *plan.Container, code int32, reason string) {
	if c.State != plan.Running {
		return
	}
	c.State, c.ExitCode, c.Reason, c.Finished = plan.Exited, code, reason, m.w.time()
	p.version++
}

// duration is how long an action takes.
func (m *machine) duration(a plan.Action) (least, most time.Duration) {
	switch a.Kind {
	case plan.RunSandbox, plan.RunContainer, plan.StartContainer:
		return 40 * time.Millisecond, 200 * time.Millisecond
	case plan.PullImage:
		return 100 * time.Millisecond, 3 * time.Second
	case plan.KillContainer:
		return 0, a.Grace
	}
	return time.Millisecond, 20 * time.Millisecond
}

var errRuntime = errors.New("the container runtime does not answer")

// act carries out an action.
func (m *machine) act(uid string, ref events.Ref, a plan.Action) error {
	fails := m.w.chance(m.w.noise.Fails)
	if fails && m.w.chance(500) {
		return errRuntime
	}
	p := m.pods[uid]
	if p == nil {
		p = &running{uid: uid, ref: ref}
		m.pods[uid] = p
	}
	err := m.change(p, a)
	p.version++
	if len(p.sandboxes) == 0 && !p.kept {
		delete(m.pods, uid)
	}
	if fails && err == nil {
		return errRuntime // it was done, and the answer is lost
	}
	return err
}

func (m *machine) change(p *running, a plan.Action) error {
	switch a.Kind {
	case plan.PrepareVolumes:
		p.kept = true
	case plan.Clean:
		p.kept = false
	case plan.PullImage:
		m.images[a.Image] = true
	case plan.RunSandbox:
		return m.runSandbox(p, a)
	case plan.RunContainer:
		return m.runContainer(p, a)
	case plan.StartContainer, plan.KillContainer, plan.RemoveContainer:
		return m.onContainer(p, a)
	case plan.StopSandbox, plan.RemoveSandbox:
		m.stopSandbox(p, a.ID)
		if a.Kind == plan.RemoveSandbox {
			p.sandboxes = slices.DeleteFunc(p.sandboxes, func(s plan.Sandbox) bool { return s.ID == a.ID })
			p.containers = slices.DeleteFunc(p.containers, func(c plan.Container) bool { return c.Sandbox == a.ID })
		}
	}
	return nil
}

func (m *machine) runSandbox(p *running, a plan.Action) error {
	m.stopSandbox(p, a.ID)
	for _, s := range p.sandboxes {
		if s.Attempt == a.Attempt {
			return fmt.Errorf("the name of attempt %d is reserved for %s", a.Attempt, s.ID)
		}
	}
	m.ids++
	p.kept = true // its logs
	p.sandboxes = append(p.sandboxes, plan.Sandbox{
		ID: fmt.Sprintf("s%d", m.ids), Attempt: a.Attempt, Ready: true, Created: m.w.time(), IPs: []string{fmt.Sprintf("10.1.0.%d", m.ids%250)},
	})
	return nil
}

func (m *machine) runContainer(p *running, a plan.Action) error {
	if !slices.ContainsFunc(p.sandboxes, func(s plan.Sandbox) bool { return s.ID == a.ID && s.Ready }) {
		return fmt.Errorf("sandbox %s is not there", a.ID)
	}
	for _, c := range p.containers {
		if c.Name == a.Container && c.Attempt == a.Attempt {
			return fmt.Errorf("the name of attempt %d is reserved for %s", a.Attempt, c.ID)
		}
	}
	m.ids++
	now := m.w.time()
	p.containers = append(p.containers, plan.Container{
		Name: a.Container, ID: fmt.Sprintf("c%d", m.ids), Sandbox: a.ID, Attempt: a.Attempt, State: plan.Running,
		ImageID: "sha256:1", Created: now, Started: now, Backoff: a.Backoff,
	})
	if m.w.chance(m.w.noise.Fails) {
		c := &p.containers[len(p.containers)-1]
		c.State, c.Started = plan.Created, time.Time{}
		return errRuntime
	}
	m.w.referee.running()
	return nil
}

func (m *machine) onContainer(p *running, a plan.Action) error {
	i := slices.IndexFunc(p.containers, func(c plan.Container) bool { return c.ID == a.ID })
	if i < 0 {
		return nil
	}
	c := &p.containers[i]
	switch a.Kind {
	case plan.StartContainer:
		if c.State == plan.Created {
			c.State, c.Started = plan.Running, m.w.time()
			m.w.referee.running()
		}
	case plan.KillContainer:
		code := int32(143)
		if m.w.chance(300) {
			code = 0
		}
		m.exit(p, c, code, "")
	case plan.RemoveContainer:
		p.containers = slices.Delete(p.containers, i, i+1)
	}
	return nil
}

func (m *machine) stopSandbox(p *running, id string) {
	for i := range p.sandboxes {
		if p.sandboxes[i].ID == id {
			p.sandboxes[i].Ready = false
		}
	}
	for i := range p.containers {
		if p.containers[i].Sandbox == id {
			m.exit(p, &p.containers[i], 137, "")
		}
	}
}

// crash ends one container that runs, as a program that ends by itself.
func (m *machine) crash(pick int, code int32) (uid string, any bool) {
	var all []*running
	for _, p := range m.list() {
		if slices.ContainsFunc(p.containers, func(c plan.Container) bool { return c.State == plan.Running }) {
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return "", false
	}
	p := all[pick%len(all)]
	for i := range p.containers {
		m.exit(p, &p.containers[i], code, "")
	}
	return p.uid, true
}
