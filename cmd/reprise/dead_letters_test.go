package main

import (
	"testing"
	"time"

	"github.com/reprise-run/reprise/agents/delivery"
)

// TestWithoutPassword knows the addresses of dead letters that cannot be sent to as
// they are.
func TestWithoutPassword(t *testing.T) {
	for address, want := range map[string]bool{
		"https://shop:secret@example.com/events": true, "https://shop@example.com/events": false, "https://example.com/events": false,
	} {
		w, err := delivery.NewWebhook(address, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if got := withoutPassword(w.Target()); got != want {
			t.Errorf("%s: %v", w.Target(), got)
		}
	}
}
