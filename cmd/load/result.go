package load

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Latency is how long something took, in milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// latencyOf sorts what it is given.
func latencyOf(took []time.Duration) Latency {
	if len(took) == 0 {
		return Latency{}
	}
	slices.Sort(took)
	at := func(share float64) float64 {
		return milliseconds(took[int(share*float64(len(took)-1)+0.5)])
	}
	return Latency{P50: at(0.50), P99: at(0.99), Max: at(1)}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Step is what all pods go through, as the observer saw it.
type Step struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
	Want  int    `json:"want"`
	// Seconds is from the first request until the last pod was there.
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"perSecond"`
	// Since says from when the latency counts.
	Since   string  `json:"since"`
	Latency Latency `json:"latencyMs"`
}

// Call is what calls for single objects took during the load.
type Call struct {
	Verb    string  `json:"verb"`
	Count   int     `json:"count"`
	Latency Latency `json:"latencyMs"`
}

// Cost is CPU time, user and system.
type Cost struct {
	// Control is what the control plane took for each pod, in milliseconds.
	Control float64 `json:"controlMsPerPod"`
	// Each is that of each of its processes.
	Each map[string]float64 `json:"eachMsPerPod,omitempty"`
	// Nodes is what the processes took that stand for the nodes, and Load what the
	// driver took, each for a pod.
	Nodes float64 `json:"nodesMsPerPod"`
	Load  float64 `json:"loadMsPerPod"`
}

// Result is what a scenario took.
type Result struct {
	Scenario Scenario `json:"scenario"`
	Side     string   `json:"side"`
	// Measured says of what more is known than what the API tells.
	Measured Measured `json:"measured"`
	// Missing says what was not reached in the time there was, and is empty if all was.
	Missing string `json:"missing,omitempty"`
	Steps   []Step `json:"steps"`
	Calls   []Call `json:"calls,omitempty"`
	// FailedCalls counts the probes that were refused or not answered, with one reason.
	FailedCalls int    `json:"failedCalls,omitempty"`
	Failure     string `json:"failure,omitempty"`
	// Up is from the first request until all pods are ready and the Deployments say
	// so, Down from there until all is gone, and After until the control plane has nothing
	// more to do: what was put off is paid then.
	Up    Cost `json:"up"`
	Down  Cost `json:"down"`
	After Cost `json:"after"`
	// PeakBytes and EndBytes are the resident memory of the control plane, and
	// PeakAnonymousBytes the most of it that is no file's.
	PeakBytes          int64 `json:"residentPeakBytes"`
	EndBytes           int64 `json:"residentEndBytes"`
	PeakAnonymousBytes int64 `json:"anonymousPeakBytes"`
	// Disagreed says that half a minute after all pods were ready some Deployments did not say so.
	Disagreed bool `json:"disagreed,omitempty"`
	// Restless says that the control plane did not come to rest when it was last waited for.
	Restless bool `json:"restless,omitempty"`
	// Events and StoredBytes are for a pod from nothing to ready.
	Events      float64 `json:"eventsPerPod"`
	StoredBytes float64 `json:"storedBytesPerPod"`
	// Fullest is how many of the pods the node has that has most of them: evenly spread
	// it would be Pods by Nodes, rounded up.
	Fullest int `json:"podsOnFullestNode"`
	// Cuts is how often the server ended one of the many watches.
	Cuts int `json:"cuts,omitempty"`
	// Relists is how often the observer had to begin anew; each blurs the times.
	Relists int `json:"relists,omitempty"`
	// MachineLoad is that of the last minute, at the start and at the end.
	MachineLoad [2]float64 `json:"machineLoad"`
	Began       time.Time  `json:"began"`
}

// Measured says what of a target was named, and so could be measured: what was not is zero
// in a result, and not printed.
type Measured struct {
	Control bool `json:"control"`
	Nodes   bool `json:"nodes"`
	Data    bool `json:"data"`
}

func measured(t Target) Measured {
	return Measured{Control: len(t.Control) > 0, Nodes: len(t.Nodes) > 0, Data: len(t.Data) > 0}
}

// Unreached is an error of one line if some of the results have something missing.
func Unreached(results []*Result) error {
	var missing []string
	for _, r := range results {
		if r.Missing != "" {
			missing = append(missing, fmt.Sprintf("%s on %s: %s", r.Scenario, r.Side, strings.ReplaceAll(r.Missing, "\n", "; ")))
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("not reached: %s", strings.Join(missing, "; "))
}

// Step returns a step by its name, and a step of nothing if there is none.
func (r *Result) Step(name string) Step {
	if i := slices.IndexFunc(r.Steps, func(s Step) bool { return s.Name == name }); i >= 0 {
		return r.Steps[i]
	}
	return Step{Name: name}
}
