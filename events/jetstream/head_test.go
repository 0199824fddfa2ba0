package jetstream

import (
	"errors"
	"os"
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream/intent"
)

// An acknowledged append that only the journal has is not lost with the head of its file.
func TestADamagedHeadOfTheJournalLosesNothing(t *testing.T) {
	l := openNew(t)
	var chain [32]byte
	all := appendTo(t, l, nil, decision(&chain, 0, 3))
	next := decision(&chain, 3, 4)
	cut(t, l, &redo{after: 3, batch: next}, 0)
	for name, c := range map[string]struct {
		damaged int // bytes from the beginning of the files
		refused bool
	}{
		"head":              {40, false},
		"head and a record": {100, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := crashed(t, l)
			for _, path := range intent.Paths(dir, "REPRISE") {
				content, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				for i := range min(c.damaged, len(content)) {
					content[i] ^= 0x55
				}
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			l, err := openOn(t, ServerOptions{Dir: dir})
			if c.refused {
				if !errors.Is(err, events.ErrDamaged) {
					t.Fatalf("it is opened with %v", err)
				}
				t.Log(err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			expectLog(t, l, append(all[:3:3], next...))
		})
	}
}
