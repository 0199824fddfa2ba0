package load

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Kind is what a scenario does with its pods.
type Kind string

const (
	// Deploy creates Deployments, waits until all their pods are ready, and
	// deletes them.
	Deploy Kind = "deploy"
	// Rolling changes the template of Deployments whose pods are ready.
	Rolling Kind = "rolling"
	// Failure kills what runs a part of the nodes.
	Failure Kind = "failure"
	// Watchers has many clients watch the pods while they are created.
	Watchers Kind = "watchers"
)

// Scenario is what is asked of a cluster.
type Scenario struct {
	Kind  Kind `json:"kind"`
	Pods  int  `json:"pods"`
	Nodes int  `json:"nodes"`
	// PerDeployment is how many pods a Deployment has; the last may have fewer.
	PerDeployment int `json:"perDeployment"`
	// Watchers is how many clients watch, in the scenario of that name.
	Watchers int `json:"watchers,omitempty"`
	// Lost is how many of the nodes are lost, in the scenario of failure.
	Lost int `json:"lost,omitempty"`
}

// What is asked for at most. A slip of the finger would otherwise take all memory
// before the cluster says a word.
const (
	// MaxNodes is how many hollow nodes have addresses of their own.
	MaxNodes       = 1 << 14
	maxPods        = 1_000_000
	maxDeployments = 100_000
	maxWatchers    = 100_000
)

// String is the scenario as ParseScenario reads it.
func (s Scenario) String() string { return fmt.Sprintf("%s:%d/%d", s.Kind, s.Pods, s.Nodes) }

// Title is the scenario in words.
func (s Scenario) Title() string {
	title := Count(s.Pods, "pod") + " on " + Count(s.Nodes, "node")
	switch s.Kind {
	case Rolling:
		return "rolling update of " + title
	case Failure:
		return fmt.Sprintf("%s, of which %s lost", title, are(s.Lost))
	case Watchers:
		return title + ", " + Count(s.Watchers, "watcher")
	}
	return title
}

// usual are the pods and nodes of a scenario that names none.
var usual = map[Kind][2]int{
	Deploy:   {2000, 200},
	Rolling:  {5000, 250},
	Failure:  {2000, 200},
	Watchers: {200, 200},
}

// ParseScenario reads KIND or KIND:PODS/NODES.
func ParseScenario(text string) (Scenario, error) {
	kind, size, sized := strings.Cut(text, ":")
	s := Scenario{Kind: Kind(kind), PerDeployment: 100}
	numbers, known := usual[s.Kind]
	if !known {
		return s, fmt.Errorf("scenario %q: there is none of that name: take deploy, rolling, failure or watchers, with :PODS/NODES where the usual ones do not fit", text)
	}
	if sized {
		pods, nodes, _ := strings.Cut(size, "/")
		for i, number := range []string{pods, nodes} {
			n, err := strconv.Atoi(number)
			if err != nil && !errors.Is(err, strconv.ErrRange) || n < 1 { // What is out of range is the largest int.
				return s, fmt.Errorf("scenario %q: after the colon come two numbers of at least 1, as in %s:%d/%d", text, kind, numbers[0], numbers[1])
			}
			numbers[i] = n
		}
	}
	s.Pods, s.Nodes = numbers[0], numbers[1]
	switch s.Kind {
	case Watchers:
		s.Watchers = 1000
	case Failure:
		s.Lost = max(1, s.Nodes/10)
	}
	return s, s.check(text)
}

// Check refuses what is too much, or cannot be reached, whatever the cluster. Ask it again
// about a scenario that was changed.
func (s Scenario) Check() error { return s.check(s.String()) }

func (s Scenario) check(text string) error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("scenario %q: %s", text, fmt.Sprintf(format, args...))
	}
	switch {
	case s.Nodes > MaxNodes:
		return wrong("more than %s nodes: hollow nodes have no more addresses of their own", thousands(MaxNodes))
	case s.Pods > maxPods:
		return wrong("more than %s pods, which is the most that is measured", thousands(maxPods))
	case s.PerDeployment < 1:
		return wrong("a Deployment has at least 1 pod")
	case (s.Pods-1)/s.PerDeployment >= maxDeployments:
		return wrong("more than %s Deployments: have each have more than %s", thousands(maxDeployments), Count(s.PerDeployment, "pod"))
	case s.Kind == Watchers && (s.Watchers < 1 || s.Watchers > maxWatchers):
		return wrong("from 1 to %s clients watch, not %d", thousands(maxWatchers), s.Watchers)
	case s.Kind == Failure && s.Lost < 1:
		return wrong("at least 1 node is lost, not %d", s.Lost)
	case s.Kind == Failure && s.Lost >= s.Nodes:
		return wrong("of %s %s lost, and none is left for their pods: name more nodes", Count(s.Nodes, "node"), are(s.Lost))
	}
	return nil
}

// thousands writes a number as people read it.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// Count is how many things there are, in words.
func Count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return thousands(n) + " " + thing
}

// are is a number of things of which something is said.
func are(n int) string {
	if n == 1 {
		return "1 is"
	}
	return thousands(n) + " are"
}
