package sim

import (
	"fmt"
	"strings"
	"time"
)

// Shrink makes a failing plan smaller for as long as it breaks the same rule, in
// at most so many tries: fewer steps, less noise, fewer nodes and servers, and an
// earlier end. try plays a plan.
func Shrink(p Plan, o Outcome, tries int, try func(Plan) Outcome) (Plan, Outcome) {
	keep := func(smaller Plan) bool {
		if tries <= 0 {
			return false
		}
		tries--
		got := try(smaller)
		if got.Failure == nil || got.Failure.Rule != o.Failure.Rule {
			return false
		}
		p, o = smaller, got
		return true
	}
	for shrunk := true; shrunk && tries > 0; {
		shrunk = fewerSteps(&p, keep)
		for _, change := range simpler {
			smaller := p
			if change(&smaller) && keep(smaller) {
				shrunk = true
			}
		}
	}
	return p, o
}

// fewerSteps leaves steps out: half of them at a time, then a quarter, and so on.
func fewerSteps(p *Plan, keep func(Plan) bool) bool {
	shrunk := false
	for size := len(p.Steps); size > 0; size /= 2 {
		for from := 0; from < len(p.Steps); {
			smaller := *p
			to := min(from+size, len(p.Steps))
			smaller.Steps = append(append([]Step(nil), p.Steps[:from]...), p.Steps[to:]...)
			if keep(smaller) {
				shrunk = true
			} else {
				from += size
			}
		}
	}
	return shrunk
}

// simpler are other ways to make a plan smaller; each says whether it did.
var simpler = []func(*Plan) bool{
	func(p *Plan) bool { had := p.Noise != Noise{}; p.Noise = Noise{}; return had },
	func(p *Plan) bool { had := p.Noise.Lost > 0; p.Noise.Lost = 0; return had },
	func(p *Plan) bool { had := p.Noise.Slow > 0; p.Noise.Slow = 0; return had },
	func(p *Plan) bool { had := p.Noise.Refused > 0; p.Noise.Refused = 0; return had },
	func(p *Plan) bool { had := p.Noise.Fails > 0; p.Noise.Fails = 0; return had },
	func(p *Plan) bool { had := p.Replicas; p.Replicas = false; return had },
	func(p *Plan) bool { had := p.over() < p.End; p.End = p.over(); return had },
	func(p *Plan) bool { p.Servers--; return p.fits() },
	func(p *Plan) bool { p.Nodes--; return p.fits() },
	func(p *Plan) bool {
		had := false
		p.Steps = append([]Step(nil), p.Steps...)
		for i := range p.Steps {
			if s := &p.Steps[i]; s.Verb == create && s.Number > 1 {
				s.Number, had = s.Number-1, true
			}
		}
		return had
	},
}

// over is when all steps are, but not before anything could have happened.
func (p *Plan) over() time.Duration {
	end := time.Second
	for _, s := range p.Steps {
		end = max(end, s.At+s.For)
	}
	return end
}

// fits says whether there are the servers and nodes that the steps speak of.
func (p *Plan) fits() bool {
	if p.Servers < 1 || p.Nodes < 1 {
		return false
	}
	for _, s := range p.Steps {
		switch s.Verb {
		case crashServer, freeze, cutServer:
			if s.Number >= p.Servers {
				return false
			}
		case cordon, uncordon, crashAgent, crashNode, cutNode, loseNode:
			if s.Number >= p.Nodes {
				return false
			}
		}
	}
	return true
}

// Transcript is what happened, for people: the plan, the events, and which rule
// was broken.
func Transcript(p Plan, o Outcome) string {
	var b strings.Builder
	b.WriteString(p.String())
	for i := range o.Events {
		e := &o.Events[i]
		fmt.Fprintf(&b, "%12s  %s\n", o.at(e), e.Headline())
	}
	if o.Failure != nil {
		fmt.Fprintf(&b, "broken: %s\n", o.Failure)
	}
	return b.String()
}
