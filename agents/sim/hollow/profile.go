package hollow

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// Profile says how the containers of hollow nodes behave. The zero profile has
// everything work at once, and containers run until they are stopped.
//
//	sandbox: {min: 50ms, max: 200ms}     # how long things take
//	pull: {mean: 2s, max: 30s}
//	start: {min: 100ms, mean: 300ms, max: 5s}
//	stop: {max: 1s}
//	pullFailures: 0.01                   # the share that fails
//	startFailures: 0.01
//	exits: {share: 0.1, after: {mean: 1m}, code: 3}
type Profile struct {
	// Sandbox, Pull and Start are how long it takes to make a sandbox, to pull an
	// image, and to start a container; Stop is how long a container takes to end
	// when it is asked to.
	Sandbox Span `json:"sandbox"`
	Pull    Span `json:"pull"`
	Start   Span `json:"start"`
	Stop    Span `json:"stop"`
	// PullFailures and StartFailures are the share of attempts that fail.
	PullFailures  float64 `json:"pullFailures"`
	StartFailures float64 `json:"startFailures"`
	// Exits are containers that end by themselves.
	Exits Exits `json:"exits"`
}

// Exits say which share of the attempts at a container ends by itself, after what
// time, with which code.
type Exits struct {
	Share float64 `json:"share"`
	After Span    `json:"after"`
	Code  int32   `json:"code"`
}

// Span is a time that is drawn: evenly between Min and Max or, with a Mean, that
// much longer than Min on average, most of them less and few much more
// (exponential), and at most Max if there is one.
type Span struct {
	Min  metav1.Duration `json:"min"`
	Mean metav1.Duration `json:"mean"`
	Max  metav1.Duration `json:"max"`
}

// ReadProfile reads a profile from YAML or JSON.
func ReadProfile(data []byte) (Profile, error) {
	var p Profile
	if err := yaml.UnmarshalStrict(data, &p); err != nil {
		return p, fmt.Errorf("not a profile of hollow nodes: %w", err)
	}
	return p, p.check()
}

func (p Profile) check() error {
	var wrong []error
	for name, share := range map[string]float64{"pullFailures": p.PullFailures, "startFailures": p.StartFailures, "exits.share": p.Exits.Share} {
		if share < 0 || share > 1 {
			wrong = append(wrong, fmt.Errorf("%s is a share and must be between 0 and 1, not %v", name, share))
		}
	}
	if p.Exits.Code < 0 || p.Exits.Code > 255 {
		wrong = append(wrong, fmt.Errorf("exits.code is the exit status of a process and must be from 0 to 255, not %d", p.Exits.Code))
	}
	for name, s := range map[string]Span{"sandbox": p.Sandbox, "pull": p.Pull, "start": p.Start, "stop": p.Stop, "exits.after": p.Exits.After} {
		switch {
		case s.Min.Duration < 0 || s.Mean.Duration < 0 || s.Max.Duration < 0:
			wrong = append(wrong, fmt.Errorf("%s: no time may be negative", name))
		case s.Max.Duration > 0 && s.Max.Duration < s.Min.Duration:
			wrong = append(wrong, fmt.Errorf("%s: the longest time, %s, is shorter than the shortest, %s", name, s.Max.Duration, s.Min.Duration))
		}
	}
	return errors.Join(wrong...)
}

// dice are drawn for one thing that happens: the same seed and the same thing give
// the same draws, in whatever order things happen.
type dice struct{ *rand.Rand }

func roll(seed uint64, what ...string) dice {
	h := fnv.New64a()
	for _, w := range what {
		h.Write([]byte(w))
		h.Write([]byte{0})
	}
	return dice{rand.New(rand.NewPCG(seed, h.Sum64()))}
}

// hits says whether something happens that has this share.
func (d dice) hits(share float64) bool { return share > 0 && d.Float64() < share }

// draw returns a time of a span.
func (d dice) draw(s Span) time.Duration {
	shortest, mean, longest := s.Min.Duration, s.Mean.Duration, s.Max.Duration
	if mean == 0 {
		if longest <= shortest {
			return shortest
		}
		return shortest + time.Duration(d.Int64N(int64(longest-shortest)+1))
	}
	t := shortest + time.Duration(math.Min(d.ExpFloat64()*float64(mean), float64(math.MaxInt64/4)))
	if longest > 0 {
		t = min(t, longest)
	}
	return t
}
