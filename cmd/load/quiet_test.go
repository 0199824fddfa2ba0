package load

import (
	"errors"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"
)

// A cluster is quiet when it has taken little for some seconds in a row, and not before.
func TestQuiet(t *testing.T) {
	for _, c := range []struct {
		what string
		busy func(second int) time.Duration // what was used in each second
		want time.Duration
		calm bool
	}{
		{"it does nothing", func(int) time.Duration { return 0 }, calmFor * time.Second, true},
		{"it does little", func(int) time.Duration { return 90 * time.Millisecond }, calmFor * time.Second, true},
		{"it is busy at first", func(s int) time.Duration { return time.Duration(max(0, 6-s)) * 100 * time.Millisecond }, (5 + calmFor - 1) * time.Second, true},
		{"it does something every other second", func(s int) time.Duration { return time.Duration(s%2) * time.Second }, patience, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			began, used, seconds := time.Now(), time.Duration(0), 0
			calm, err := quiet(t.Context(), func() (time.Duration, error) {
				for ; seconds < int(time.Since(began)/time.Second); seconds++ {
					used += c.busy(seconds + 1)
				}
				return used, nil
			})
			if took := time.Since(began); err != nil || calm != c.calm || took != c.want {
				t.Errorf("%s: calm %v after %v (%v), want %v after %v", c.what, calm, took, err, c.calm, c.want)
			}
		})
	}
	if _, err := quiet(t.Context(), func() (time.Duration, error) { return 0, fs.ErrNotExist }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a process that is gone: %v", err)
	}
}
