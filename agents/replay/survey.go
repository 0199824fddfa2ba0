package replay

import (
	"encoding/json"
	"slices"
	"time"

	core "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/agents/scheduler"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// Survey reads a history once to learn what a Trial must know beforehand: how
// long each pod ran, how long a decision took, and how the scheduler was set up.
type Survey struct {
	state *projections.State
	lives map[string]*life // by uid
	took  []time.Duration
	setup []byte
	bound int
}

// life is when things happened to a pod. What has not happened is zero.
type life struct {
	bound, ended time.Time
	// byItself says that the pod was over before it was gone.
	byItself bool
}

// NewSurvey returns a survey that begins with a state; empty if nil.
func NewSurvey(state *projections.State) *Survey {
	if state == nil {
		state = projections.NewState()
	}
	return &Survey{state: state, lives: map[string]*life{}}
}

// Feed takes events that follow those before. They belong to the survey from
// here on.
func (s *Survey) Feed(batch []events.Event) error {
	changes, err := s.state.Fold(batch)
	for i := range changes {
		s.learn(&changes[i])
	}
	return err
}

func (s *Survey) learn(c *projections.Change) {
	if c.Event.Object.GroupResource() != "pods" {
		return
	}
	l := s.lives[c.Event.UID]
	if l == nil {
		l = &life{}
		s.lives[c.Event.UID] = l
	}
	switch {
	case isBinding(c.Event):
		s.bound++
		l.bound = c.Event.Time
		if !c.Event.Now.IsZero() {
			s.took = append(s.took, max(c.Event.Time.Sub(c.Event.Now), 0))
		}
		if s.bound == 1 {
			var asked runner.Asked
			if json.Unmarshal(c.Event.Asked, &asked) == nil {
				s.setup = asked.Setup
			}
		}
	case !l.ended.IsZero():
	case c.After == nil:
		l.ended = c.Event.Time
	case over(c.After):
		l.ended, l.byItself = c.Event.Time, true
	}
}

// Bindings is how many pods the scheduler bound.
func (s *Survey) Bindings() int { return s.bound }

// Setup is that of the scheduler when it first bound a pod: the JSON of a
// scheduler.Policy, nil for the default.
func (s *Survey) Setup() []byte { return s.setup }

// latency is the median time from a decision to its event, a millisecond at
// least.
func (s *Survey) latency() time.Duration {
	if len(s.took) == 0 {
		return time.Millisecond
	}
	slices.Sort(s.took)
	return max(s.took[len(s.took)/2], time.Millisecond)
}

// isBinding says whether an event is the scheduler's decision where a pod runs.
func isBinding(e *events.Event) bool {
	return e.Type == scheduler.Bound && e.Actor.Kind == "scheduler"
}

// over says whether a pod has ended. It and nodeOf look at every change of a pod,
// so they do not decode it.
func over(e *projections.Entry) bool {
	phase, _ := events.Text(events.Lookup(e.Raw, "status", "phase"))
	return phase == string(core.PodSucceeded) || phase == string(core.PodFailed)
}

// nodeOf is the node of a pod, empty for none.
func nodeOf(e *projections.Entry) string {
	node, _ := events.Text(events.Lookup(e.Raw, "spec", "nodeName"))
	return node
}
