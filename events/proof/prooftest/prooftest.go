// Package prooftest damages what proofs are about, for tests: one bit at a time,
// drawn from a seed. Whatever can be read of the damaged must either be what was
// there, or be accused. Nothing but tests may import it.
package prooftest

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// Verdict is what came of reading what was damaged.
type Verdict struct {
	// Accused says that the damage was found.
	Accused bool
	// Same says that what was read is what was there before.
	Same bool
}

// Bit is one bit of a content.
type Bit struct {
	Byte int
	Bit  uint
}

func (b Bit) String() string { return fmt.Sprintf("bit %d of byte %d", b.Bit, b.Byte) }

// Flip calls try with a copy of content in which one bit is flipped, for one bit of
// each byte, or of as many bytes as most says if there are more (0: there is no
// most). It fails the test for each flip that changes what is read and is not found,
// and says how many were found. try may keep nothing of the copy.
func Flip(t testing.TB, seed uint64, content []byte, most int, try func(at Bit, flipped []byte) Verdict) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	at := r.Perm(len(content))
	if most > 0 && len(at) > most {
		at = at[:most]
	}
	flipped := make([]byte, len(content))
	found, harmless, missed := 0, 0, 0
	for _, i := range at {
		bit := Bit{i, uint(r.IntN(8))}
		copy(flipped, content)
		flipped[i] ^= 1 << bit.Bit
		switch v := try(bit, flipped); {
		case v.Accused:
			found++
		case v.Same:
			harmless++
		default:
			if missed++; missed <= 10 {
				t.Errorf("seed %d: %s of %d bytes is flipped, something else is read, and nobody notices", seed, bit, len(content))
			}
		}
	}
	t.Logf("seed %d: of %d flips in %d bytes %d were found, %d change nothing that is read, %d were missed", seed, len(at), len(content), found, harmless, missed)
}
