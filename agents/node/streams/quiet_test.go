package streams

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"testing"
)

// spdyFrame is a frame of some type and size.
func spdyFrame(control bool, typ, size int, fill byte) []byte {
	b := make([]byte, frameHeader+size)
	if control {
		b[0], b[1] = 0x80, 3
		binary.BigEndian.PutUint16(b[2:], uint16(typ))
	} else {
		b[3] = 1 // the stream
	}
	binary.BigEndian.PutUint32(b[4:], uint32(size))
	for i := frameHeader; i < len(b); i++ {
		b[i] = fill
	}
	return b
}

// split cuts a stream into frames, after its HTTP head.
func split(t *testing.T, b []byte) (head []byte, list [][]byte) {
	t.Helper()
	head, rest, found := bytes.Cut(b, []byte(headEnd))
	if !found {
		t.Fatalf("no HTTP head in %q", b)
	}
	for len(rest) > 0 {
		size := frameHeader + int(binary.BigEndian.Uint32(rest[4:])&0xFFFFFF)
		list, rest = append(list, rest[:size]), rest[size:]
	}
	return head, list
}

// TestQuiet sends frames both ways in pieces of random size, and pings among
// those that go to the runtime.
func TestQuiet(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		toRuntime, toClient := []byte("POST /exec HTTP/1.1\r\nUpgrade: SPDY/3.1\r\n\r\n"), []byte("HTTP/1.1 101 Switching Protocols\r\n\r\n")
		var pings [][]byte
		for i := range 1 + random.IntN(20) {
			switch random.IntN(3) {
			case 0:
				pings = append(pings, spdyFrame(true, typePing, 4, byte(i)))
				toRuntime = append(toRuntime, pings[len(pings)-1]...)
			case 1:
				toRuntime = append(toRuntime, spdyFrame(true, 1+random.IntN(5), random.IntN(30), byte(i))...)
			default:
				toRuntime = append(toRuntime, spdyFrame(false, 0, random.IntN(300), byte(i))...)
			}
			toClient = append(toClient, spdyFrame(random.IntN(2) == 0, typePing+random.IntN(2), random.IntN(300), byte(i))...)
		}
		ours, runtime := net.Pipe()
		q := &quiet{Conn: ours}
		heard := make(chan []byte, 1)
		go func() {
			got := make([]byte, len(toRuntime)-len(pings)*(frameHeader+4))
			if _, err := io.ReadFull(runtime, got); err != nil {
				t.Error(err)
			}
			heard <- got
		}()
		go pieces(runtime, toClient, seed)
		go pieces(q, toRuntime, seed+1)
		said := make([]byte, len(toClient)+len(pings)*(frameHeader+4))
		if _, err := io.ReadFull(q, said); err != nil {
			t.Fatal(err)
		}
		_, want := split(t, toRuntime)
		_, got := split(t, <-heard)
		same(t, seed, "the runtime hears", got, without(want, pings))
		_, sent := split(t, toClient)
		_, back := split(t, said)
		same(t, seed, "the client hears", without(back, pings), sent)
		if len(back) != len(sent)+len(pings) {
			t.Errorf("seed %d: %d pings were answered, not %d", seed, len(back)-len(sent), len(pings))
		}
		q.Close()
		runtime.Close()
	}
}

// pieces writes in pieces of random size.
func pieces(w io.Writer, b []byte, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	for len(b) > 0 {
		n := min(len(b), 1+random.IntN(40))
		if _, err := w.Write(b[:n]); err != nil {
			return // The reader says why.
		}
		b = b[n:]
	}
}

// without leaves out each of some frames once.
func without(list, some [][]byte) (out [][]byte) {
	left := append([][]byte(nil), some...)
next:
	for _, f := range list {
		for i, l := range left {
			if bytes.Equal(f, l) {
				left = append(left[:i], left[i+1:]...)
				continue next
			}
		}
		out = append(out, f)
	}
	return out
}

func same(t *testing.T, seed uint64, what string, got, want [][]byte) {
	t.Helper()
	if !bytes.Equal(bytes.Join(got, nil), bytes.Join(want, nil)) {
		t.Fatalf("seed %d: %s\n%x, want\n%x", seed, what, got, want)
	}
}

// TestQuietAnswersAtRest sees a ping answered though the runtime sends nothing.
func TestQuietAnswersAtRest(t *testing.T) {
	ours, runtime := net.Pipe()
	q := &quiet{Conn: ours}
	t.Cleanup(func() { q.Close(); runtime.Close() })
	go func() { _, _ = io.Copy(io.Discard, runtime) }()
	go func() { _, _ = runtime.Write([]byte("HTTP/1.1 101 Switching Protocols\r\n\r\n")) }()
	head := make([]byte, 36)
	if _, err := io.ReadFull(q, head); err != nil {
		t.Fatal(err)
	}
	ping := spdyFrame(true, typePing, 4, 7)
	go func() { _, _ = q.Write(append([]byte("POST / HTTP/1.1\r\n\r\n"), ping...)) }()
	answer := make([]byte, len(ping))
	if _, err := io.ReadFull(q, answer); err != nil || !bytes.Equal(answer, ping) {
		t.Fatalf("the answer is %x: %v", answer, err)
	}
}
