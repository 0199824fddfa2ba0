package streams

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-client/pkg/logs"
)

// logs answers with a container's log.
func (s *Server) logs(w http.ResponseWriter, r *http.Request) {
	opts, err := logOptions(r.URL.Query())
	if err != nil {
		refuse(w, &Error{http.StatusBadRequest, err.Error()})
		return
	}
	c, err := s.pods.Container(r.Context(), r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container"), opts.Previous)
	if err != nil {
		refuse(w, err)
		return
	}
	if _, err := os.Stat(c.Log); errors.Is(err, os.ErrNotExist) {
		refuse(w, &Error{http.StatusNotFound, "the log of container " + r.PathValue("container") + " is no longer on the node"})
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK)
	out := flushing(w)
	if opts.Follow {
		out.flush()
	}
	var stdout, stderr io.Writer = out, out
	if opts.Stream != nil {
		switch *opts.Stream {
		case v1.LogStreamStdout:
			stderr = nil
		case v1.LogStreamStderr:
			stdout = nil
		}
	}
	err = logs.ReadLogs(r.Context(), c.Log, c.ID, reading(opts, time.Now()), states{runtime: s.runtime}, stdout, stderr)
	if err != nil && r.Context().Err() == nil {
		// The answer has begun: all that is left is to say so at its end.
		_, _ = io.WriteString(out, "\nthe log cannot be read further: "+err.Error()+"\n")
	}
}

// reading is what was asked of a log in the terms of its reader.
func reading(o *v1.PodLogOptions, now time.Time) *logs.LogOptions {
	out := &logs.LogOptions{TailLines: o.TailLines, LimitBytes: o.LimitBytes, Follow: o.Follow, Timestamp: o.Timestamps}
	switch {
	case o.SinceSeconds != nil:
		out.Since = now.Add(-time.Duration(*o.SinceSeconds) * time.Second)
	case o.SinceTime != nil:
		out.Since = o.SinceTime.Time
	}
	return out
}

// logOptions reads the parameters of a request for a log.
func logOptions(q url.Values) (*v1.PodLogOptions, error) {
	o := &v1.PodLogOptions{
		Follow: isSet(q.Get("follow")), Previous: isSet(q.Get("previous")), Timestamps: isSet(q.Get("timestamps")),
	}
	for name, into := range map[string]**int64{"sinceSeconds": &o.SinceSeconds, "tailLines": &o.TailLines, "limitBytes": &o.LimitBytes} {
		if text := q.Get(name); text != "" {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return nil, errors.New(name + " is not a number: " + text)
			}
			*into = &n
		}
	}
	if text := q.Get("sinceTime"); text != "" {
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, errors.New("sinceTime is not a time of RFC 3339: " + text)
		}
		at := metav1.NewTime(t)
		o.SinceTime = &at
	}
	if stream := q.Get("stream"); stream != "" {
		o.Stream = &stream
	}
	return o, nil
}

// flusher sends each line as it is written.
type flusher struct {
	http.ResponseWriter
	control *http.ResponseController
}

func flushing(w http.ResponseWriter) flusher { return flusher{w, http.NewResponseController(w)} }

func (f flusher) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	if err == nil {
		f.flush()
	}
	return n, err
}

// flush sends what is written. A writer that cannot will send it in its time.
func (f flusher) flush() { _ = f.control.Flush() }

// states tells the reader of logs whether a container still runs: all that it
// asks of a runtime.
type states struct {
	cri.RuntimeService
	runtime runtimeapi.RuntimeServiceClient
}

// ContainerStatus asks the runtime.
func (s states) ContainerStatus(ctx context.Context, id string, verbose bool) (*runtimeapi.ContainerStatusResponse, error) {
	return s.runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: verbose})
}

// list answers with the node's pods.
func (s *Server) list(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v1.PodList{ // The asker has gone if it fails.
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, Items: s.pods.List(),
	})
}
