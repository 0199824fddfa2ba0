package history

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/reprise-run/reprise/events"
)

// Point is a moment as a person names it. ParsePoint reads it where the person
// is, with that clock and time zone; Resolve finds it in a log, which may be
// elsewhere.
type Point struct {
	// Text is what the person wrote.
	Text string
	// Sequence is the event that was named, if one was.
	Sequence uint64
	// Time is the time that was named, if one was. With neither a sequence nor a
	// time the point is the end of the log.
	Time time.Time
	// Now is when the person said it, in the person's time zone.
	Now time.Time
	// Afar says that the person's time zone may be another: times are told with theirs.
	Afar bool
}

const (
	// longAgo is how many days a person may go back.
	longAgo  = 100_000
	halfDay  = 12 * time.Hour
	clock    = "15:04:05"
	dateTime = "2006-01-02 15:04:05"
)

// layouts are the ways to write a time with its date, and clocks those to write
// one without. All but RFC 3339 are in the time zone of the person.
var (
	layouts = []string{time.RFC3339Nano, dateTime, "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04"}
	clocks  = []string{clock, "15:04"}
	ago     = regexp.MustCompile(`^(?:(\d+)d)?((?:\d+(?:\.\d+)?(?:h|m|s|ms))*)$`)
)

// ParsePoint reads a point as a person writes it at the time now, which is in the
// person's time zone:
//
//	2026-11-26T10:42:00Z   RFC 3339
//	2026-11-26 10:42:30    local time; the seconds may be left out. Where clocks showed
//	                       it twice, the second time
//	10:42                  the last time that clocks showed it, today or yesterday
//	-15m, -2h30m, -3d      so long ago
//	@812, 812              right after the event with this sequence, which is also its id
//	now                    the end of the log
func ParsePoint(text string, now time.Time) (Point, error) {
	p := Point{Text: text, Now: now}
	text = strings.TrimSpace(text)
	if text == "now" {
		return p, nil
	}
	if digits := strings.TrimPrefix(text, "@"); digits != text || number(text) {
		var err error
		if p.Sequence, err = strconv.ParseUint(digits, 10, 64); err != nil || p.Sequence == 0 {
			return p, fmt.Errorf("%q is no sequence: write @ and a number from 1 on, as @812", text)
		}
		return p, nil
	}
	if while, ok := strings.CutPrefix(text, "-"); ok {
		if before, ok := past(while, now); ok {
			p.Time = before
			return p, nil
		}
	}
	for i, layout := range layouts {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			p.Time = t
			if again, ok := latest(t, now); ok && i > 0 {
				p.Time = again
			}
			return p, nil
		}
	}
	for _, layout := range clocks {
		if t, err := time.Parse(layout, text); err == nil {
			p.Time = last(t, now)
			return p, nil
		}
	}
	hint := ""
	if _, ok := past(text, now); ok {
		hint = fmt.Sprintf(" (did you mean -%s?)", text)
	}
	return p, fmt.Errorf("%q names no moment%s: write a time as 10:42, 2026-11-26 10:42 or 2026-11-26T10:42:00Z, a while ago as -15m or -3d, an event as @812, or now", text, hint)
}

func number(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// past reads a duration, with days, and goes back by it.
func past(text string, now time.Time) (time.Time, bool) {
	m := ago.FindStringSubmatch(text)
	if m == nil || text == "" {
		return now, false
	}
	if m[1] != "" {
		days, err := strconv.Atoi(m[1])
		if err != nil || days > longAgo {
			return now, false
		}
		now = now.AddDate(0, 0, -days)
	}
	if m[2] != "" {
		d, err := time.ParseDuration(m[2])
		if err != nil {
			return now, false
		}
		now = now.Add(-d)
	}
	return now, true
}

// last is the last time before now at which clocks showed t.
func last(t, now time.Time) time.Time {
	for day := now.Day(); ; day-- {
		at := time.Date(now.Year(), now.Month(), day, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), now.Location())
		if shown, ok := latest(at, now); ok {
			return shown
		}
	}
}

// latest is the last time before now at which clocks showed the date and time that
// they show at another. Where they are put back they show an hour twice, of which the
// time package takes either.
func latest(at, now time.Time) (time.Time, bool) {
	_, offset := at.Zone()
	for _, around := range []time.Duration{halfDay, -halfDay} {
		_, other := at.Add(around).Zone()
		shown := at.Add(time.Duration(offset-other) * time.Second)
		if !shown.After(now) && shown.Format(dateTime) == at.Format(dateTime) {
			return shown, true
		}
	}
	return at, false
}

// Resolve finds the point in a log: the sequence of the last event that had
// happened by then. It refuses what the log cannot know: a time in the future, an
// event that is not there, and a moment before the log began.
func (p Point) Resolve(r Reader) (uint64, error) {
	begin, end, err := Span(r)
	if err != nil {
		return 0, err
	}
	extent := fmt.Sprintf("the log goes from sequence %d (%s) to %d (%s)",
		begin.Sequence, p.local(begin.Time), end.Sequence, p.local(end.Time))
	switch {
	case p.Sequence > end.Sequence:
		return 0, fmt.Errorf("there is no event %d yet: %s", p.Sequence, extent)
	case p.Sequence != 0 && p.Sequence < begin.Sequence:
		return 0, fmt.Errorf("event %d is from before the log began: %s", p.Sequence, extent)
	case p.Sequence != 0:
		return p.Sequence, nil
	case p.Time.IsZero():
		return end.Sequence, nil
	case p.Time.After(p.Now):
		return 0, fmt.Errorf("%s is in the future: %s", p.said(), extent)
	case p.Time.Before(begin.Time):
		return 0, fmt.Errorf("%s is before the log began: %s", p.said(), extent)
	}
	return r.SequenceAt(p.Time)
}

// said is the time as it was written, and as it was read if that differs.
func (p Point) said() string {
	read := p.local(p.Time)
	if _, err := time.Parse(time.RFC3339, p.Text); p.Afar && err == nil {
		return read
	}
	if read != p.Text {
		return p.Text + " (" + read + ")"
	}
	return p.Text
}

// local prints a time as the person reads clocks.
func (p Point) local(t time.Time) string {
	if p.Afar {
		return t.In(p.Now.Location()).Format(time.RFC3339)
	}
	return t.In(p.Now.Location()).Format(dateTime)
}

// ErrEmpty says that nothing has happened yet that could be asked about.
var ErrEmpty = errors.New("the log is empty: nothing has happened yet")

// Span returns the first and the last event that a reader can tell of, and
// ErrEmpty if there is none.
func Span(r Reader) (first, last events.Event, err error) {
	for e, err := range r.Events(context.Background(), Query{Limit: 1}) {
		if err != nil {
			return first, last, err
		}
		first = e
	}
	if first.Sequence == 0 {
		return first, last, ErrEmpty
	}
	last, err = r.Event(r.Folded())
	return first, last, err
}
