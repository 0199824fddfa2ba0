package archive

import (
	"errors"
	"fmt"

	"github.com/reprise-run/reprise/events"
)

// ErrNotArchive says that a file is something else.
var ErrNotArchive = errors.New("this is not an archive of Reprise: it does not begin as one does; make one with `reprise export`")

// NewerError says that an archive has a format of the future.
type NewerError struct{ Version uint32 }

func (e *NewerError) Error() string {
	return fmt.Sprintf("the archive has format %d, and this version of reprise reads formats up to %d: upgrade reprise", e.Version, Version)
}

// Unwrap makes it an events.ErrNewerLog.
func (e *NewerError) Unwrap() error { return events.ErrNewerLog }

// DamageError says where an archive stops being what was written, and how far it
// is good.
type DamageError struct {
	// From and To are what the archive says that it holds; zero if that cannot be
	// read.
	From, To uint64
	// Good is the last event up to which all is whole: From-1 if none is.
	Good uint64
	// First and Last are the events of which one at least is damaged, zero if the
	// damage is not in the events. First is the first bad one if Last is the same.
	First, Last uint64
	// Offset is the byte at which the damaged part of the file begins.
	Offset int64
	// Cut says that the file ends too early.
	Cut bool
	// Reason is what is wrong there.
	Reason string
}

func (e *DamageError) Error() string {
	what := "is damaged"
	if e.Cut {
		what = "is cut short"
	}
	where := fmt.Sprintf("at byte %d", e.Offset)
	switch {
	case e.First == 0:
	case e.First == e.Last:
		where = fmt.Sprintf("at event %d (%s)", e.First, where)
	default:
		where = fmt.Sprintf("in events %d to %d (%s)", e.First, e.Last, where)
	}
	return fmt.Sprintf("the archive %s %s: %s; %s", what, where, e.Reason, e.good())
}

// good says how far the archive can be relied on.
func (e *DamageError) good() string {
	switch {
	case e.From == 0:
		return "nothing of it can be used"
	case e.Good < e.From:
		return fmt.Sprintf("none of its events %d to %d can be used", e.From, e.To)
	case e.Good == e.To:
		return fmt.Sprintf("all its events, %d to %d, are whole", e.From, e.To)
	}
	return fmt.Sprintf("its events %d to %d of %d are whole", e.From, e.Good, e.To)
}

// Unwrap makes it an events.ErrDamaged.
func (e *DamageError) Unwrap() error { return events.ErrDamaged }
