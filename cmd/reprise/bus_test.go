package main

import (
	"context"
	"errors"
	"testing"
)

// A node calls for itself if the server of its feed does not hear it, but not after it has
// waited for one that is slow.
func TestHeardByAskingOrByCalling(t *testing.T) {
	unheard := errors.New("unheard")
	for _, c := range []struct {
		asked error
		want  string
		err   error
	}{
		{nil, "ask", nil},
		{unheard, "ask call", nil},
		{context.DeadlineExceeded, "ask", context.DeadlineExceeded},
	} {
		did := ""
		renew, err := heard(
			func(context.Context) (bool, error) { did += "ask"; return c.asked == nil, c.asked },
			func(context.Context) (bool, error) { did += " call"; return true, nil },
		)(t.Context())
		if did != c.want || !errors.Is(err, c.err) || renew != (c.err == nil) {
			t.Errorf("asking fails with %v: it did %q: renew %v, %v", c.asked, did, renew, err)
		}
	}
}
