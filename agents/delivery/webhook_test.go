package delivery_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/reprise-run/reprise/agents/delivery"
	"github.com/reprise-run/reprise/events"
)

// TestAddressesAreRedacted leaves out of an address what lets its holder in.
func TestAddressesAreRedacted(t *testing.T) {
	for address, want := range map[string]string{
		"https://example.com/events":             "https://example.com/events",
		"https://shop@example.com/events":        "https://shop@example.com/events",
		"https://shop:s3cret@example.com/events": "https://shop:xxxxx@example.com/events",
		"https://example.com/e?key=s3cret&a=b":   "https://example.com/e?key=xxxxx&a=xxxxx",
		"https://example.com/e?s3cret#s3cret":    "https://example.com/e?xxxxx",
	} {
		got := delivery.Redacted(address)
		if got != want || delivery.Incomplete(got) != (got != address) {
			t.Errorf("%s is shown as %s, incomplete %v", address, got, delivery.Incomplete(got))
		}
	}
	// Nor does a failure tell.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := "http://shop:s3cret@" + l.Addr().String() + "/a b?key=s3cret&s3cret"
	must(t, l.Close())
	w, err := delivery.NewWebhook(address, time.Minute)
	must(t, err)
	if o := w.Send(t.Context(), &events.Event{Type: "pod.bound"}); strings.Contains(o.Reason, "s3cret") || !strings.Contains(o.Reason, "refused") {
		t.Errorf("the reason is %s", o.Reason)
	}
}
