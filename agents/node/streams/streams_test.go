package streams_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/reprise-run/reprise/agents/node/streams"
)

// world is a node with one container, whose runtime notes what it is asked.
type world struct {
	runtimeapi.RuntimeServiceClient
	log     string
	running bool
	asked   string
	url     string
}

func (w *world) Container(_ context.Context, _, _, container string, previous bool) (streams.Container, error) {
	if container != "web" {
		return streams.Container{}, &streams.Error{Code: http.StatusNotFound, Message: "no container " + container}
	}
	if previous {
		return streams.Container{ID: "c0", Log: w.log + ".previous"}, nil
	}
	return streams.Container{ID: "c1", Log: w.log}, nil
}

func (w *world) Running(context.Context, string, string, string) (string, error) {
	if !w.running {
		return "", &streams.Error{Code: http.StatusBadRequest, Message: "it does not run"}
	}
	return "c1", nil
}

func (w *world) Sandbox(context.Context, string, string) (string, error) { return "s1", nil }

func (w *world) List() []v1.Pod { return []v1.Pod{{}} }

func (w *world) ContainerStatus(context.Context, *runtimeapi.ContainerStatusRequest, ...grpc.CallOption) (*runtimeapi.ContainerStatusResponse, error) {
	state := runtimeapi.ContainerState_CONTAINER_EXITED
	if w.running {
		state = runtimeapi.ContainerState_CONTAINER_RUNNING
	}
	return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{State: state}}, nil
}

func (w *world) Exec(_ context.Context, r *runtimeapi.ExecRequest, _ ...grpc.CallOption) (*runtimeapi.ExecResponse, error) {
	w.asked = fmt.Sprintf("exec %s %q in=%v out=%v err=%v tty=%v", r.ContainerId, r.Cmd, r.Stdin, r.Stdout, r.Stderr, r.Tty)
	return &runtimeapi.ExecResponse{Url: w.url + "/exec/token"}, nil
}

func (w *world) Attach(_ context.Context, r *runtimeapi.AttachRequest, _ ...grpc.CallOption) (*runtimeapi.AttachResponse, error) {
	w.asked = fmt.Sprintf("attach %s in=%v out=%v err=%v tty=%v", r.ContainerId, r.Stdin, r.Stdout, r.Stderr, r.Tty)
	return &runtimeapi.AttachResponse{Url: w.url + "/attach/token"}, nil
}

func (w *world) PortForward(_ context.Context, r *runtimeapi.PortForwardRequest, _ ...grpc.CallOption) (*runtimeapi.PortForwardResponse, error) {
	w.asked = fmt.Sprintf("forward %s %v", r.PodSandboxId, r.Port)
	return &runtimeapi.PortForwardResponse{Url: w.url + "/portforward/token"}, nil
}

func serve(t *testing.T, w *world) string {
	t.Helper()
	runtime := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Connection", "Upgrade")
		rw.Header().Set("Upgrade", r.Header.Get("Upgrade"))
		rw.WriteHeader(http.StatusSwitchingProtocols)
		conn, _, err := rw.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "the runtime was asked for %s", r.URL)
	}))
	t.Cleanup(runtime.Close)
	w.url = runtime.URL
	s := httptest.NewServer(streams.Handler(w, w))
	t.Cleanup(s.Close)
	return s.URL
}

func get(t *testing.T, url string, upgrade bool) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if upgrade {
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "SPDY/3.1")
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

const lines = `2026-01-01T00:00:01.000000000Z stdout F one
2026-01-01T00:00:02.000000000Z stderr F two
2026-01-01T00:00:03.000000000Z stdout P thr
2026-01-01T00:00:03.000000000Z stdout F ee
`

func TestLogs(t *testing.T) {
	w := &world{log: filepath.Join(t.TempDir(), "0.log")}
	if err := os.WriteFile(w.log, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	url := serve(t, w) + "/containerLogs/shop/pod/web"
	for query, want := range map[string]string{
		"":                                "one\ntwo\nthree\n",
		"?follow=true":                    "one\ntwo\nthree\n",
		"?tailLines=2":                    "three\n",
		"?timestamps=true&tailLines=3":    "2026-01-01T00:00:02.000000000Z two\n2026-01-01T00:00:03.000000000Z three\n",
		"?sinceTime=2026-01-01T00:00:02Z": "two\nthree\n",
		"?sinceSeconds=10":                "",
		"?limitBytes=5":                   "one\nt",
		"?stream=Stderr":                  "two\n",
	} {
		if code, got := get(t, url+query, false); code != http.StatusOK || got != want {
			t.Errorf("%s says %d %q, want %q", query, code, got, want)
		}
	}
	for query, want := range map[string]int{
		"?previous=true": http.StatusNotFound, "?tailLines=x": http.StatusBadRequest, "?sinceTime=now": http.StatusBadRequest,
	} {
		if code, got := get(t, url+query, false); code != want || got == "" {
			t.Errorf("%s says %d %q, want %d", query, code, got, want)
		}
	}
	if code, got := get(t, strings.TrimSuffix(url, "web")+"other", false); code != http.StatusNotFound || got != "no container other\n" {
		t.Errorf("another container says %d %q", code, got)
	}
}

func TestFollow(t *testing.T) {
	w := &world{log: filepath.Join(t.TempDir(), "0.log"), running: true}
	if err := os.WriteFile(w.log, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, serve(t, w)+"/containerLogs/shop/pod/web?follow=true&tailLines=2", nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	// The last line has come: what is written from here on is followed.
	was := make([]byte, len("three\n"))
	if _, err := io.ReadFull(r.Body, was); err != nil || string(was) != "three\n" {
		t.Fatalf("of what was there comes %q, %v", was, err)
	}
	f, err := os.OpenFile(w.log, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("2026-01-01T00:00:04.000000000Z stdout F new\n"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(r.Body, got); err != nil || string(got) != "new\n" {
		t.Errorf("while following comes %q, %v", got, err)
	}
}

func TestStreamsArePassedOn(t *testing.T) {
	w := &world{running: true}
	url := serve(t, w)
	for path, want := range map[string]string{
		"/exec/shop/pod/web?command=a&command=b+c&input=1&output=1&tty=1&error=1": `exec c1 ["a" "b c"] in=true out=true err=false tty=true`,
		"/exec/shop/pod/web?command=a&stdout=true&stderr=true":                    `exec c1 ["a"] in=false out=true err=true tty=false`,
		"/attach/shop/pod/web?output=1":                                           "attach c1 in=false out=true err=false tty=false",
		"/portForward/shop/pod?port=80,81":                                        "forward s1 [80 81]",
	} {
		_, answer := get(t, url+path, true)
		if w.asked != want || !strings.HasSuffix(answer, "/token") {
			t.Errorf("%s asks for %q and answers %q, want %q", path, w.asked, answer, want)
		}
	}
	if code, _ := get(t, url+"/portForward/shop/pod?port=http", true); code != http.StatusBadRequest {
		t.Errorf("a port that is none says %d", code)
	}
	w.running = false
	if code, got := get(t, url+"/exec/shop/pod/web?command=a", true); code != http.StatusBadRequest || got != "it does not run\n" {
		t.Errorf("a container that does not run says %d %q", code, got)
	}
}

func TestPods(t *testing.T) {
	url := serve(t, &world{})
	var list v1.PodList
	if _, body := get(t, url+"/pods", false); json.Unmarshal([]byte(body), &list) != nil || len(list.Items) != 1 {
		t.Errorf("got %s", body)
	}
	if _, body := get(t, url+"/healthz", false); body != "ok" {
		t.Errorf("got %q", body)
	}
}
