package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"sigs.k8s.io/yaml"

	"github.com/reprise-run/reprise/events"
)

// printer writes events for people, or for programs.
type printer struct {
	w io.Writer
	// format is "", wide, json or yaml.
	format string
}

var formats = []string{"wide", "json", "yaml", "text"}

// bookkeeping are paths whose changes tell a reader nothing.
var bookkeeping = []string{"/metadata/managedFields", "/metadata/generation", "/status/observedGeneration", "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration"}

// columns is how wide a line of a change may be before its end is left out.
const columns = 140

func (p printer) check() error {
	for _, f := range append(formats, "") {
		if p.format == f {
			return nil
		}
	}
	return fmt.Errorf("--output %q is none of %s", p.format, strings.Join(formats, ", "))
}

// event prints one event, indented for a tree.
func (p printer) event(e *events.Event, indent string) error {
	switch p.format {
	case "json", "yaml":
		return p.structured(e)
	case "text":
		_, err := io.WriteString(p.w, e.Text())
		return err
	}
	at := e.Time.Local().Format(time.DateTime)
	if _, err := fmt.Fprintf(p.w, "%s  %s%s\n", at, indent, e.Headline()); err != nil {
		return err
	}
	margin := strings.Repeat(" ", len(at)+len("  ")+utf8.RuneCountInString(indent)+len("    "))
	for _, line := range append(p.note(e), p.changes(e)...) {
		if _, err := fmt.Fprintf(p.w, "%s%s\n", margin, line); err != nil {
			return err
		}
	}
	return nil
}

// note is what the decider had to say.
func (p printer) note(e *events.Event) []string {
	switch line := "note " + string(e.Note); {
	case len(e.Note) == 0:
		return nil
	case p.format == "wide":
		return []string{line}
	default:
		return []string{cut(line)}
	}
}

// changes says what became of the object, an operation a line.
func (p printer) changes(e *events.Event) []string {
	if events.IsRemoval(e.Data) || len(e.Data) == 0 || e.Data[0] != '[' {
		return nil // Gone, or all of it new: the headline says it.
	}
	ops, err := events.ParsePatch(e.Data)
	if err != nil {
		return []string{err.Error()}
	}
	var lines []string
	for _, op := range ops {
		line := op.String()
		if p.format != "wide" {
			if skipped(op.Path) {
				continue
			}
			line = shorten(op)
		}
		lines = append(lines, line)
	}
	return lines
}

func skipped(path string) bool {
	for _, b := range bookkeeping {
		if path == b || strings.HasPrefix(path, b+"/") {
			return true
		}
	}
	return false
}

// shorten prints an operation on one line of bearable length. Of a container's
// status it keeps what a person looks for.
func shorten(op events.Op) string {
	line := op.String()
	if len(line) <= columns {
		return line
	}
	if ended := terminations(op.Value); ended != "" {
		return op.Op + " " + op.Path + " (" + ended + ")"
	}
	return cut(line)
}

// cut leaves out the end of a long line.
func cut(line string) string {
	if len(line) <= columns {
		return line
	}
	end := columns
	for end > 0 && line[end]&0xC0 == 0x80 {
		end-- // Not within a character.
	}
	return line[:end] + "…"
}

// terminations finds the ends of containers in a value, however deep.
func terminations(value []byte) string {
	var v any
	if err := json.Unmarshal(value, &v); err != nil {
		return ""
	}
	var found []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if code, ok := v["exitCode"]; ok {
				found = append(found, fmt.Sprintf("exitCode %v, reason %v", code, v["reason"]))
			}
			for _, key := range []string{"terminated", "state", "lastState"} {
				walk(v[key])
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(v)
	return strings.Join(found, "; ")
}

// structured prints an event as a CloudEvents JSON object, or as YAML.
func (p printer) structured(e *events.Event) error {
	o := map[string]any{
		"specversion": "1.0", "id": fmt.Sprint(e.Sequence), "type": e.Type, "source": e.Actor.String(),
		"subject": e.Object.String(), "time": e.Time, "sequence": e.Sequence, "uid": e.UID,
		"chain": fmt.Sprintf("%x", e.Chain), "data": json.RawMessage(e.Data),
	}
	for key, value := range map[string]string{"user": e.User, "audit": e.Audit, "agentversion": e.Actor.Version} {
		if value != "" {
			o[key] = value
		}
	}
	if e.Cause != 0 {
		o["cause"] = e.Cause
	}
	if e.Basis != 0 {
		o["basis"], o["now"] = e.Basis, e.Now
	}
	if len(e.Asked) > 0 {
		o["asked"] = json.RawMessage(e.Asked)
	}
	if len(e.Note) > 0 {
		o["note"] = json.RawMessage(e.Note)
	}
	out, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("event %d cannot be printed as JSON: %w", e.Sequence, err)
	}
	out = append(out, '\n')
	if p.format == "yaml" {
		if out, err = yaml.JSONToYAML(out); err != nil {
			return fmt.Errorf("event %d cannot be printed as YAML: %w", e.Sequence, err)
		}
		out = append([]byte("---\n"), out...)
	}
	_, err = p.w.Write(out)
	return err
}
