package main

import (
	"io"
	"net"
	"testing"
)

// TestLinger closes a connection on a client that has read nothing yet, and goes
// on sending.
func TestLinger(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := lingering{tcp}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	// So that much is left to send when the server closes.
	if err := client.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.(*lingeringConn).SetWriteBuffer(4 << 20); err != nil {
		t.Fatal(err)
	}
	reading := make(chan error, 1)
	go func() {
		_, err := server.Read(make([]byte, 1))
		reading <- err
	}()
	const size = 256 << 10
	if _, err := server.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	read := 0
	buf := make([]byte, 16<<10)
	for {
		if _, err := client.Write([]byte("ping")); err != nil {
			t.Fatalf("after %d bytes: %v", read, err)
		}
		n, err := client.Read(buf)
		read += n
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("after %d bytes: %v", read, err)
		}
	}
	if read != size {
		t.Errorf("%d bytes of %d arrived", read, size)
	}
	if err := <-reading; err == nil {
		t.Error("who read when the connection was closed got something")
	}
	if _, err := server.Write(nil); err == nil {
		t.Error("writing to a closed connection does not fail")
	}
	if err := server.Close(); err == nil {
		t.Error("closing twice does not fail")
	}
}
