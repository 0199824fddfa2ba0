package events

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseText reads events in their text form, as String and Text write it. An
// event begins at the start of a line; what is indented belongs to the event
// above. Empty lines and lines that begin with # are skipped. Fields may be left
// out and come in any order.
func ParseText(text string) ([]Event, error) {
	var all []Event
	var ops []Op
	finish := func() {
		if len(ops) > 0 {
			all[len(all)-1].Data = AppendPatch(nil, ops)
			ops = nil
		}
	}
	for i, line := range strings.Split(text, "\n") {
		body := strings.TrimSpace(line)
		if body == "" || line[0] == '#' {
			continue
		}
		var err error
		switch indented := line[0] == ' ' || line[0] == '\t'; {
		case !indented:
			finish()
			var e Event
			e, err = parseHeadline(body)
			all = append(all, e)
		case len(all) == 0:
			err = errors.New("an indented line belongs to an event, and there is none above it")
		default:
			ops, err = parseDetail(&all[len(all)-1], ops, body)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	finish()
	return all, nil
}

func parseHeadline(line string) (Event, error) {
	var e Event
	typ, rest, err := nextWord(line)
	if err != nil {
		return e, err
	}
	if e.Type = typ; !strings.Contains(typ, ".") {
		return e, fmt.Errorf("%q is not <noun>.<fact>", typ)
	}
	if e.Object, rest, err = parseRef(rest); err != nil {
		return e, err
	}
	return e, parseFields(&e, rest)
}

// parseDetail reads one indented line.
func parseDetail(e *Event, ops []Op, line string) ([]Op, error) {
	key, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	var err error
	switch {
	case key == "add" || key == "remove" || key == "replace":
		var op Op
		op, err = parseOp(key, rest)
		return append(ops, op), err
	case line[0] == '{':
		e.Data, err = Canonical([]byte(line))
	case key == "note":
		e.Note, err = jsonOrUnquoted(rest)
	case key == "asked":
		e.Asked, err = jsonOrUnquoted(rest)
	case key == "data":
		e.Data, err = unquote(rest)
	default:
		err = parseFields(e, line)
	}
	return ops, err
}

func jsonOrUnquoted(s string) ([]byte, error) {
	if strings.HasPrefix(s, `"`) {
		return unquote(s)
	}
	return []byte(s), nil
}

func unquote(s string) ([]byte, error) {
	u, err := strconv.Unquote(s)
	if err != nil {
		return nil, fmt.Errorf("%s is not a quoted string", s)
	}
	return []byte(u), nil
}

func parseOp(op, rest string) (Op, error) {
	path, value, _ := strings.Cut(rest, " ")
	if strings.HasPrefix(rest, `"`) {
		dec := json.NewDecoder(strings.NewReader(rest))
		if err := dec.Decode(&path); err != nil {
			return Op{}, fmt.Errorf("%s: the path is not a string: %w", op, err)
		}
		value = strings.TrimSpace(rest[dec.InputOffset():])
	}
	o := Op{Op: op, Path: path}
	if op == "remove" {
		if value != "" {
			return o, fmt.Errorf("remove %s takes no value", path)
		}
		return o, nil
	}
	canonical, err := Canonical([]byte(value))
	if err != nil {
		return o, fmt.Errorf("%s %s: the value is %w", op, path, err)
	}
	o.Value = canonical
	return o, nil
}

func parseFields(e *Event, rest string) error {
	for rest != "" {
		key, after, err := nextWord(rest)
		if err != nil {
			return err
		}
		if rest = after; key == "optional" || key == "more" {
			e.Optional = e.Optional || key == "optional"
			e.More = e.More || key == "more"
			continue
		}
		if key == "by" {
			e.Actor.Kind, e.Actor.Name, rest, err = parseActor(rest)
		} else {
			var value string
			if value, rest, err = nextWord(rest); err == nil {
				err = setField(e, key, value)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

func setField(e *Event, key, value string) (err error) {
	switch key {
	case "seq":
		e.Sequence, err = strconv.ParseUint(value, 10, 64)
	case "because":
		e.Cause, err = strconv.ParseUint(value, 10, 64)
	case "basis":
		e.Basis, err = strconv.ParseUint(value, 10, 64)
	case "at":
		e.Time, err = parseMoment(value)
	case "now":
		e.Now, err = parseMoment(value)
	case "for":
		e.User = value
	case "uid":
		e.UID = value
	case "audit":
		e.Audit = value
	case "version":
		e.Actor.Version = value
	case "chain":
		var sum []byte
		if sum, err = hex.DecodeString(value); err == nil && len(sum) != len(e.Chain) {
			err = fmt.Errorf("has %d bytes, not %d", len(sum), len(e.Chain))
		}
		copy(e.Chain[:], sum)
	default:
		return errors.New("there is no such field")
	}
	return err
}

func parseMoment(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	return t.UTC(), err
}

// ParseRef reads the text form of a reference: pods/shop/web-1,
// deployments.apps/shop/web, nodes/n1.
func ParseRef(s string) (Ref, error) {
	r, rest, err := parseRef(s)
	if err == nil && rest != "" {
		err = fmt.Errorf("%q follows the name", rest)
	}
	return r, err
}

func parseRef(s string) (r Ref, rest string, err error) {
	if r.Resource, rest, err = nextPart(s, "./ "); err != nil {
		return r, rest, err
	}
	if strings.HasPrefix(rest, ".") {
		if r.Group, rest, err = nextPart(rest[1:], "/ "); err != nil {
			return r, rest, err
		}
	}
	var names []string
	for strings.HasPrefix(rest, "/") {
		var name string
		if name, rest, err = nextPart(rest[1:], "/ "); err != nil {
			return r, rest, err
		}
		names = append(names, name)
	}
	switch len(names) {
	case 1:
		r.Name = names[0]
	case 2:
		r.Namespace, r.Name = names[0], names[1]
	default:
		return r, rest, fmt.Errorf("%q is not <resource>[.<group>]/[<namespace>/]<name>", s)
	}
	return r, strings.TrimLeft(rest, " "), nil
}

func parseActor(s string) (kind, name, rest string, err error) {
	if kind, rest, err = nextPart(s, ": "); err == nil && strings.HasPrefix(rest, ":") {
		name, rest, err = nextPart(rest[1:], ": ")
	}
	return kind, name, strings.TrimLeft(rest, " "), err
}

func nextWord(s string) (word, rest string, err error) {
	word, rest, err = nextPart(s, " ")
	return word, strings.TrimLeft(rest, " "), err
}

// nextPart takes a quoted string, or what is before any of the ends.
func nextPart(s, ends string) (text, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		q, err := strconv.QuotedPrefix(s)
		if err != nil {
			return "", "", fmt.Errorf("%s: the quotation does not end", s)
		}
		text, err = strconv.Unquote(q)
		return text, s[len(q):], err
	}
	if i := strings.IndexAny(s, ends); i >= 0 {
		text, rest = s[:i], s[i:]
	} else {
		text = s
	}
	if text == "" {
		return "", "", fmt.Errorf("something is missing before %q", rest)
	}
	return text, rest, nil
}
