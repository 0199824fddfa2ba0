package history

import (
	"encoding/json"
	"fmt"
	"strings"
)

// String is the line as people read it:
//
//	spec.replicas 3 -> 5
//	+ metadata.labels.tier "gold"
//	- spec.template.spec.containers[sidecar] {"image":"demo:1","name":"sidecar"}
//	condition Ready True -> False (ContainersNotReady: containers with unready status: [web])
//	status.containerStatuses[web].state running -> terminated (exit code 137, OOMKilled)
func (l Line) String() string {
	place, show := l.Path, func(v json.RawMessage) string { return string(v) }
	switch {
	case strings.HasPrefix(l.Path, conditions) && strings.HasSuffix(l.Path, "]"):
		place = "condition " + l.Path[len(conditions):len(l.Path)-1]
		if l.Before != nil && l.After != nil {
			return place + " " + conditionChange(l.Before, l.After)
		}
		show = conditionText
	case strings.HasPrefix(l.Path, "status.") && strings.Contains(l.Path, "ontainerStatuses["):
		if strings.HasSuffix(l.Path, "].state") || strings.HasSuffix(l.Path, "].lastState") {
			show = stateText
		} else if strings.HasSuffix(l.Path, "]") {
			show = containerText
		}
	}
	switch {
	case l.Before == nil:
		return "+ " + place + " " + show(l.After)
	case l.After == nil:
		return "- " + place + " " + show(l.Before)
	}
	return place + " " + show(l.Before) + " -> " + show(l.After)
}

const conditions = "status.conditions["

// condition is what a person reads of one.
type condition struct{ Status, Reason, Message string }

// conditionText is a condition: its status and why it has that.
func conditionText(v json.RawMessage) string {
	var c condition
	if json.Unmarshal(v, &c) != nil || c.Status == "" {
		return string(v)
	}
	return c.Status + c.because()
}

// because is the reason in brackets, with the message if all is not well.
func (c condition) because() string {
	switch {
	case c.Message == "" || (c.Status == "True" && c.Reason != ""):
		return bracketed(c.Reason)
	case c.Reason == "":
		return bracketed(c.Message)
	}
	return bracketed(c.Reason + ": " + c.Message)
}

func bracketed(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

// conditionChange says what is different, the most telling first.
func conditionChange(before, after json.RawMessage) string {
	var b, a condition
	if json.Unmarshal(before, &b) != nil || json.Unmarshal(after, &a) != nil || b.Status == "" || a.Status == "" {
		return string(before) + " -> " + string(after)
	}
	switch {
	case b.Status != a.Status:
		return b.Status + " -> " + a.Status + a.because()
	case b.Reason != a.Reason:
		return fmt.Sprintf("%s, %s -> %s", a.Status, quoteEmpty(b.Reason), quoteEmpty(a.Reason))
	case b.Message != a.Message:
		return fmt.Sprintf("%s, %q -> %q", a.Status, b.Message, a.Message)
	}
	return a.Status + ", " + string(before) + " -> " + string(after)
}

func quoteEmpty(s string) string {
	if s == "" {
		return `""`
	}
	return s
}

// containerText is the status of a container that was not spoken of before.
func containerText(v json.RawMessage) string {
	var c struct {
		Image        string
		RestartCount int
		State        json.RawMessage
	}
	if json.Unmarshal(v, &c) != nil || c.State == nil {
		return string(v)
	}
	text := stateText(c.State)
	if c.Image != "" {
		text += ", image " + c.Image
	}
	if c.RestartCount > 0 {
		text += fmt.Sprintf(", restarts %d", c.RestartCount)
	}
	return text
}

// stateText is the state of a container: running, waiting or terminated, and why.
func stateText(v json.RawMessage) string {
	var s struct {
		Running *struct{}
		Waiting *struct{ Reason, Message string }
		Ended   *struct {
			ExitCode        int
			Signal          int
			Reason, Message string
		} `json:"terminated"`
	}
	if json.Unmarshal(v, &s) != nil {
		return string(v)
	}
	switch {
	case s.Running != nil:
		return "running"
	case s.Waiting != nil:
		return "waiting" + bracketed(joined(s.Waiting.Reason, s.Waiting.Message))
	case s.Ended != nil:
		text := fmt.Sprintf("exit code %d", s.Ended.ExitCode)
		if s.Ended.Reason != "" {
			text += ", " + s.Ended.Reason
		}
		return "terminated" + bracketed(joined(text, s.Ended.Message))
	}
	return string(v)
}

func joined(reason, message string) string {
	if reason == "" || message == "" {
		return reason + message
	}
	return reason + ": " + message
}
