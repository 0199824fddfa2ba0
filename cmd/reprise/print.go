package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/reprise-run/reprise/agents/scheduler"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections/history"
)

// printer writes events for people, or for programs.
type printer struct {
	w io.Writer
	// format is "", wide, json, yaml or text.
	format string
	// thorough says what a decider had to say in full.
	thorough bool
}

var (
	formats       = []string{"wide", "json", "yaml", "text"}
	objectFormats = []string{"json", "yaml"}
)

// columns is how wide a line of a change may be before its end is left out.
const columns = 140

func (p *printer) flag(c *cobra.Command) {
	c.Flags().StringVarP(&p.format, "output", "o", "", "one of "+strings.Join(formats, ", "))
	completes(c, "output", func() []string { return formats })
}

func (p printer) check() error {
	if p.format == "" || slices.Contains(formats, p.format) {
		return nil
	}
	return fmt.Errorf("--output %q is none of %s", p.format, strings.Join(formats, ", "))
}

// objectsFlag and checkObjects are flag and check where each thing is a line of a table,
// or an object for programs.
func (p *printer) objectsFlag(c *cobra.Command) {
	c.Flags().StringVarP(&p.format, "output", "o", "", "json or yaml: for programs, an object each")
	completes(c, "output", func() []string { return objectFormats })
}

func (p printer) checkObjects() error {
	if p.format == "" || slices.Contains(objectFormats, p.format) {
		return nil
	}
	return fmt.Errorf("--output %q is neither json nor yaml", p.format)
}

// forPeople says whether people read what is printed.
func (p printer) forPeople() bool { return p.format == "" || p.format == "wide" }

// event prints one event, indented for a tree.
func (p printer) event(t *history.Told, indent string) error {
	switch p.format {
	case "json", "yaml":
		o, err := cloudEvent(t)
		if err != nil {
			return err
		}
		return p.object(o)
	case "text":
		_, err := io.WriteString(p.w, t.Event.Text())
		return err
	}
	at := t.Event.Time.Local().Format(time.DateTime)
	if _, err := fmt.Fprintf(p.w, "%s  %s%s\n", at, indent, t.Event.Headline()); err != nil {
		return err
	}
	margin := strings.Repeat(" ", len(at)+len("  ")+utf8.RuneCountInString(indent)+len("    "))
	for _, line := range append(p.note(&t.Event), p.changes(t.Changes)...) {
		if _, err := fmt.Fprintf(p.w, "%s%s\n", margin, shown(line)); err != nil {
			return err
		}
	}
	return nil
}

// note is what the decider had to say.
func (p printer) note(e *events.Event) []string {
	if len(e.Note) == 0 {
		return nil
	}
	if lines, ok := scheduler.Readable(e.Note); ok && e.Noun() == "pod" {
		if p.thorough || p.format == "wide" {
			return lines
		}
		return lines[:1]
	}
	return []string{p.cut("note: " + plainly(e.Note))}
}

// plainly is a note without the marks of JSON, if it is a text or has only plain
// members: "container web, exitCode 137".
func plainly(note []byte) string {
	var text string
	var members map[string]any
	if json.Unmarshal(note, &text) == nil {
		return text
	}
	if json.Unmarshal(note, &members) != nil {
		return string(note)
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(members)) {
		switch v := members[name].(type) {
		case map[string]any, []any:
			return string(note)
		default:
			parts = append(parts, fmt.Sprintf("%s %v", name, v))
		}
	}
	return strings.Join(parts, ", ")
}

// changes says what became of the object.
func (p printer) changes(changes []history.Line) []string {
	var lines []string
	for _, l := range changes {
		if !l.Bookkeeping || p.format == "wide" {
			lines = append(lines, p.cut(p.brief(l.String())))
		}
	}
	return lines
}

// sealed is the encrypted value of a Secret or the like, of which nobody reads more
// than that it is one, and whether it is the same.
var sealed = regexp.MustCompile(`"(sealed/v\d+/[A-Za-z0-9+/]{8})[A-Za-z0-9+/=]+"`)

// brief leaves out the ends of encrypted values, unless all is to be shown: two of
// them would not have room in a line.
func (p printer) brief(line string) string {
	if p.format == "wide" {
		return line
	}
	return sealed.ReplaceAllString(line, `"$1…"`)
}

// cut leaves out the end of a long line, unless all is to be shown.
func (p printer) cut(line string) string {
	if len(line) <= columns || p.format == "wide" {
		return line
	}
	end := columns
	for end > 0 && line[end]&0xC0 == 0x80 {
		end-- // Not within a character.
	}
	return line[:end] + "…"
}

// shown is text from the log as it may be printed: what a terminal would obey, or
// hide, is written out. Containers and clients write what they like into messages.
func shown(text string) string {
	if !strings.ContainsFunc(text, hidden) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if hidden(r) {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func hidden(r rune) bool { return !unicode.IsPrint(r) }

// cloudEvent is an event as a CloudEvents JSON object, with what it changed.
func cloudEvent(t *history.Told) (map[string]any, error) {
	e := &t.Event
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
	switch {
	case len(e.Note) == 0:
	case json.Valid(e.Note):
		o["note"] = json.RawMessage(e.Note)
	default:
		o["note"] = string(e.Note)
	}
	if len(t.Changes) > 0 {
		o["changes"] = t.Changes
	}
	if _, err := json.Marshal(o); err != nil {
		return nil, fmt.Errorf("event %d cannot be printed as JSON: %w", e.Sequence, err)
	}
	return o, nil
}

// object prints something as JSON on one line, or as a document of YAML.
func (p printer) object(o any) error {
	out, err := json.Marshal(o)
	if err != nil {
		return err
	}
	out = append(out, '\n')
	if p.format == "yaml" {
		if out, err = yaml.JSONToYAML(out); err != nil {
			return err
		}
		out = append([]byte("---\n"), out...)
	}
	_, err = p.w.Write(out)
	return err
}
