package runnertest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/cockroachdb/datadriven"
	"sigs.k8s.io/yaml"

	"github.com/reprise-run/reprise/agents/runner"
	"github.com/reprise-run/reprise/events"
)

// print is the text form of a result, "" for one that says nothing.
func (s *story) print(item runner.Item, r runner.Result, a args) string {
	var out strings.Builder
	same := ""
	for _, c := range r.Commands {
		fmt.Fprintf(&out, "  %s %s%s because %d%s\n", c.Verb, c.Object, qualify(c), c.Because, refused(a))
		if len(c.Body) == 0 || a.brief {
			continue
		}
		if body := salient(c.Body); body != same {
			out.WriteString(indent(indent(body)))
			same = body
		} else {
			out.WriteString("    as the one before\n")
		}
	}
	for _, d := range r.Decisions {
		printDecision(&out, d)
	}
	if !r.Wake.IsZero() && (out.Len() > 0 || !r.Wake.Equal(s.items[item.Ref].wake)) {
		fmt.Fprintf(&out, "  wake: %s\n", r.Wake.Sub(Epoch).Round(time.Millisecond))
	}
	if out.Len() == 0 {
		return ""
	}
	return fmt.Sprintf("%s:\n%s", item.Ref, out.String())
}

func refused(a args) string {
	if a.refuse == "" {
		return ""
	}
	return ", refused"
}

func qualify(c runner.Command) string {
	var q []string
	if c.UID != "" {
		q = append(q, "uid "+c.UID)
	}
	if c.Sequence != 0 {
		q = append(q, fmt.Sprintf("sequence %d", c.Sequence))
	}
	if c.GracePeriod != nil {
		q = append(q, fmt.Sprintf("grace %ds", *c.GracePeriod))
	}
	if c.Propagation != "" {
		q = append(q, c.Propagation)
	}
	if len(q) == 0 {
		return ""
	}
	return " (" + strings.Join(q, ", ") + ")"
}

func printDecision(out *strings.Builder, d events.Decision) {
	own := map[events.Ref]uint64{}
	for _, x := range d.Expect {
		own[x.Object] = x.Sequence
	}
	for i, c := range d.Changes {
		together := ""
		if i > 0 {
			together = "+ "
		}
		fmt.Fprintf(out, "  %s%s %s", together, c.Type, c.Object)
		if seq, ok := own[c.Object]; ok {
			fmt.Fprintf(out, " expects %d", seq)
			delete(own, c.Object)
		}
		fmt.Fprintf(out, " because %d\n", d.Because)
		printData(out, c.Data)
		if len(c.Note) > 0 {
			fmt.Fprintf(out, "    note %s\n", c.Note)
		}
	}
	for _, x := range d.Expect {
		if _, left := own[x.Object]; left {
			fmt.Fprintf(out, "    expects also %s at %d\n", x.Object, x.Sequence)
		}
	}
}

func printData(out *strings.Builder, data []byte) {
	if events.IsRemoval(data) {
		out.WriteString("    removed\n")
		return
	}
	ops, err := events.ParsePatch(data)
	if err != nil { // a whole object
		out.WriteString(indent(indent(salient(data))))
		return
	}
	for _, op := range ops {
		fmt.Fprintf(out, "    %s %s", op.Op, op.Path)
		if len(op.Value) > 0 {
			fmt.Fprintf(out, " %s", op.Value)
		}
		out.WriteByte('\n')
	}
}

// salient is the body of an object without what its name says already.
func salient(raw []byte) string {
	var doc object
	if err := json.Unmarshal(raw, &doc); err != nil {
		return fmt.Sprintf("not a JSON object: %v\n", err)
	}
	delete(doc, "apiVersion")
	delete(doc, "kind")
	if m, ok := doc["metadata"].(object); ok {
		delete(m, "name")
		delete(m, "namespace")
		if m["creationTimestamp"] == nil {
			delete(m, "creationTimestamp")
		}
	}
	for k, v := range doc {
		if m, ok := v.(object); ok && len(m) == 0 {
			delete(doc, k)
		}
	}
	if len(doc) == 0 {
		return ""
	}
	return yamlOf(doc)
}

func yamlOf(v any) string {
	out, err := yaml.Marshal(v)
	if err != nil {
		return fmt.Sprintf("cannot be printed: %v\n", err)
	}
	return string(out)
}

func indent(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString("  " + line)
	}
	return out.String()
}

// show prints an object, or the part of it that path names.
func (s *story) show(d *datadriven.TestData) (string, error) {
	var words []string
	var path string
	for _, arg := range d.CmdArgs {
		if arg.Key == "path" {
			path = strings.Join(arg.Vals, "")
		} else {
			words = append(words, arg.Key)
		}
	}
	ref, err := parseRef(strings.Split(strings.Join(words, "/"), "/"))
	if err != nil {
		return "", err
	}
	e := s.lookup(ref)
	if e == nil {
		return "there is none\n", nil
	}
	var at any
	if err := json.Unmarshal(e.Raw, &at); err != nil {
		return "", err
	}
	for _, token := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' }) {
		o, _ := at.(object)
		at = o[token]
	}
	return yamlOf(at), nil
}
