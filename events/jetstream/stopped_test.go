package jetstream_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
)

// TestSubscriberThatStopsReading asks for all that it may have under way and then takes
// nothing from its connection, nor answers. The log goes on, and when the subscriber is
// back it begins with the first event that it has not acknowledged.
func TestSubscriberThatStopsReading(t *testing.T) {
	w := newWorld(t)
	sum := sha256.Sum256([]byte("secret"))
	must(t, w.subscribers.Add(t.Context(), events.Subscriber{Name: "asleep", Filters: []events.Filter{inShop}, Password: hex.EncodeToString(sum[:])}))
	raw, err := net.Dial("tcp", w.server.Addr())
	must(t, err)
	defer raw.Close()
	must(t, raw.(*net.TCPConn).SetReadBuffer(4096))
	ask := `{"batch":500,"expires":60000000000}`
	_, err = fmt.Fprint(raw, "CONNECT {\"user\":\"asleep\",\"pass\":\"secret\",\"headers\":true}\r\nSUB _INBOX.asleep.* 1\r\n")
	must(t, err)
	for i := range 8 {
		_, err = fmt.Fprintf(raw, "PUB $JS.API.CONSUMER.MSG.NEXT.REPRISE.asleep _INBOX.asleep.%d %d\r\n%s\r\n", i, len(ask), ask)
		must(t, err)
	}
	eventually(t, "it has asked", func() bool {
		all, err := w.subscribers.List(t.Context())
		must(t, err)
		return all[0].Connected == 1
	})
	// An hour of a busy cluster, in fewer and larger events.
	large := make([]string, 1500)
	for i := range large {
		large[i] = fmt.Sprintf("pods/shop/%s-%d created", strings.Repeat("x", 100), i)
	}
	began := time.Now()
	for part := large; len(part) > 0; part = part[100:] {
		w.happen(part[:100]...)
	}
	t.Logf("%d events were appended in %s", len(large), time.Since(began).Round(time.Millisecond))
	eventually(t, "as much is under way as may be", func() bool {
		all, err := w.subscribers.List(t.Context())
		must(t, err)
		return all[0].Unacknowledged == 1000 && all[0].Pending == 500
	})
	must(t, raw.Close())
	eventually(t, "it has gone", func() bool {
		all, err := w.subscribers.List(t.Context())
		must(t, err)
		return all[0].Connected == 0
	})
	nc, err := nats.Connect("nats://"+w.server.Addr(), nats.UserInfo("asleep", "secret"))
	must(t, err)
	defer nc.Close()
	if got := fetch(t, nc, "asleep", 2, 2, true); fmt.Sprint(got) != "[1 2]" {
		t.Errorf("when it is back it reads %v", got)
	}
}
