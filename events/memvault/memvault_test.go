package memvault_test

import (
	"testing"
	"time"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/logtest"
	"github.com/reprise-run/reprise/events/memvault"
)

func TestVault(t *testing.T) {
	logtest.RunVault(t, func(*testing.T) events.Vault { return memvault.New(time.Now) })
}
