package load

import (
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

// String is the scenario as ParseScenario reads it.
func (s Scenario) String() string { return fmt.Sprintf("%s:%d/%d", s.Kind, s.Pods, s.Nodes) }

// Title is the scenario in words.
func (s Scenario) Title() string {
	title := fmt.Sprintf("%s pods on %s nodes", thousands(s.Pods), thousands(s.Nodes))
	switch s.Kind {
	case Rolling:
		return "rolling update of " + title
	case Failure:
		return fmt.Sprintf("%s, of which %s are lost", title, thousands(s.Lost))
	case Watchers:
		return fmt.Sprintf("%s, %s watchers", title, thousands(s.Watchers))
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
		return s, fmt.Errorf("there is no scenario %q: take deploy, rolling, failure or watchers, with :PODS/NODES where the usual ones do not fit", kind)
	}
	if sized {
		pods, nodes, _ := strings.Cut(size, "/")
		for i, text := range []string{pods, nodes} {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 {
				return s, fmt.Errorf("scenario %q: after the colon come two numbers, as in %s:%d/%d", text, kind, numbers[0], numbers[1])
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
	return s, nil
}

// thousands writes a number as people read it.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
