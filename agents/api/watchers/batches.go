package watchers

import (
	"net/http"
	"sync"

	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/endpoints/responsewriter"
	"k8s.io/apiserver/pkg/server/routine"
)

// batch is how many bytes of a watch are sent at once, if there are as many. It is a
// few frames of HTTP/2.
const batch = 32 << 10

// buffers are those of the watches that are just now writing.
var buffers = sync.Pool{New: func() any { return new([batch]byte) }}

// Batches has the answers of h to watches sent in pieces: what is written lies in
// memory until it is flushed, as whoever serves a watch does when it has no more
// events, or until it is enough. So filters, frames and records of TLS are passed
// once for many small writes.
func Batches(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, known := request.RequestInfoFrom(r.Context())
		if !known || !info.IsResourceRequest || info.Verb != "watch" {
			h.ServeHTTP(w, r)
			return
		}
		b := &batches{ResponseWriter: w}
		h.ServeHTTP(responsewriter.WrapForHTTP1Or2(b), r)
		if t := routine.TaskFrom(r.Context()); t != nil && t.Func != nil {
			serve := t.Func // The watch begins when all filters have returned.
			t.Func = func() {
				defer b.send()
				serve()
			}
			return
		}
		b.send()
	})
}

// batches is a ResponseWriter that sends what is flushed.
type batches struct {
	http.ResponseWriter
	buffer *[batch]byte // nil while there is nothing in it
	used   int
	err    error // why nothing more can be sent
}

// Unwrap implements responsewriter.UserProvidedDecorator.
func (b *batches) Unwrap() http.ResponseWriter { return b.ResponseWriter }

// Write implements http.ResponseWriter.
func (b *batches) Write(p []byte) (int, error) {
	if b.used+len(p) > batch {
		b.send()
	}
	switch {
	case b.err != nil:
		return 0, b.err
	case len(p) > batch:
		return b.ResponseWriter.Write(p)
	}
	if b.buffer == nil {
		b.buffer = buffers.Get().(*[batch]byte)
	}
	b.used += copy(b.buffer[b.used:], p)
	return len(p), nil
}

// Flush implements http.Flusher.
func (b *batches) Flush() {
	if b.send(); b.err == nil {
		b.ResponseWriter.(http.Flusher).Flush()
	}
}

// send writes what lies in the buffer and gives the buffer back.
func (b *batches) send() {
	if b.buffer == nil {
		return
	}
	if b.err == nil {
		_, b.err = b.ResponseWriter.Write(b.buffer[:b.used])
	}
	buffers.Put(b.buffer)
	b.buffer, b.used = nil, 0
}
