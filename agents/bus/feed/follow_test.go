package feed

import (
	"testing"
	"time"
)

// A node asks some time after the last message, but not so soon after it has asked, and
// before the server forgets it.
func TestNextAsk(t *testing.T) {
	asked := time.Unix(1000, 0)
	for _, c := range []struct {
		what       string
		came, want time.Duration // after it asked
	}{
		{"no message since", -time.Minute, every},
		{"one at once", 0, every},
		{"one later", every / 2, every + every/2},
		{"one just now, and it asked long ago", 3*every - 1, 3 * every},
	} {
		f := &follower{opts: Options{Every: every}, came: asked.Add(c.came)}
		if got := f.next(asked).Sub(asked); got != c.want {
			t.Errorf("%s: it asks after %v, want %v", c.what, got, c.want)
		}
	}
	if none := new(follower).next(asked); none.Before(asked) {
		t.Errorf("before any message it asks at %v, and it has asked at %v", none, asked)
	}
	if late := 3*every + patience; late >= forgotten {
		t.Errorf("an answer may take until %v after the last, and the server forgets the node after %v", late, forgotten)
	}
}
