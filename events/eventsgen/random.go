package eventsgen

import (
	"encoding/hex"
	"math/bits"
	"time"
)

// random is SplitMix64: small, and the same everywhere.
type random struct{ state uint64 }

func (r *random) draw() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a number from 0 to n-1.
func (r *random) below(n int) int {
	high, _ := bits.Mul64(r.draw(), uint64(n))
	return int(high)
}

// around returns a number that is n on average, and from half to one and a half
// of it.
func (r *random) around(n int64) int64 { return n/2 + int64(r.below(int(max(n, 1)))) }

// hex returns random hexadecimal digits.
func (r *random) hex(n int) string {
	b := make([]byte, 0, 64)
	for len(b) < n {
		v := r.draw()
		for range 16 {
			b = append(b, "0123456789abcdef"[v&15])
			v >>= 4
		}
	}
	return string(b[:n])
}

// letters returns a random suffix as Kubernetes puts behind names.
func (r *random) letters(n int) string {
	const alphabet = "bcdfghjklmnpqrstvwxz2456789"
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[r.below(len(alphabet))]
	}
	return string(b)
}

func (r *random) uuid() string {
	var id [16]byte
	for i, v := range [2]uint64{r.draw(), r.draw()} {
		for j := range 8 {
			id[8*i+j] = byte(v >> (8 * j))
		}
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	b := make([]byte, 36)
	hex.Encode(b[0:8], id[0:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:36], id[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b)
}

// pick returns one of several.
func pick[T any](r *random, of []T) T { return of[r.below(len(of))] }

// clock formats times; most are asked for more than once.
type clock struct {
	second int64
	text   string
}

// stamp is the time as objects have it.
func (g *Generator) stamp() string {
	if s := g.now / 1000; s != g.clock.second {
		g.clock = clock{s, time.Unix(s, 0).UTC().Format(time.RFC3339)}
	}
	return g.clock.text
}
