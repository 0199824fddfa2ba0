package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
)

func TestReveal(t *testing.T) {
	dir := t.TempDir()
	const name = "a.5dyu7qk3"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(`{"name":"`+name+`","texts":["one","--password=t\"wo"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	stands := func(index string) string { return hiddenMark + index + ":" + name + ":" + dir }
	got, texts, err := reveal([]byte(`{"args":["run","` + stands("1") + `"],"cwd":"/","env":["PATH=/bin","A=` + stands("0") + `","B=x ` + stands("0") + `","EMPTY="]}`))
	want := `{"args":["run","--password=t\"wo"],"cwd":"/","env":["PATH=/bin","A=one","B=x ` + stands("0") + `","EMPTY="]}`
	if err != nil || string(got) != want || !slices.Equal(texts, []string{"--password=t\"wo", "one"}) {
		t.Errorf("%s, %q, %v\nwant %s", got, texts, err, want)
	}
	if err := os.Symlink(filepath.Join(dir, name), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		stands("2"), stands("-1"),
		hiddenMark + "0:gone:" + dir, hiddenMark + "0:link:" + dir, hiddenMark + "0:.:" + dir,
		hiddenMark + "0:shadow:/etc", hiddenMark + "0:zero:/dev",
	} {
		if text, err := hidden(bad); err == nil {
			t.Errorf("%s gives %q", bad, text)
		}
	}
	for _, plain := range []string{"", hiddenMark, hiddenMark + "0", hiddenMark + "x:y:/z", hiddenMark + "0:a/b:/c", hiddenMark + "0:a:b"} {
		if text, err := hidden(plain); err != nil || text != plain {
			t.Errorf("%q gives %q, %v", plain, text, err)
		}
	}
	if _, _, err := reveal([]byte("{")); err == nil || strings.Contains(err.Error(), name) {
		t.Errorf("what is no process: %v", err)
	}
}

// failing is a runc that quotes what it cannot run, as runc does.
type failing struct {
	taskapi.TTRPCTaskService
	spec *anypb.Any
}

func (f *failing) Exec(_ context.Context, r *taskapi.ExecProcessRequest) (*emptypb.Empty, error) {
	f.spec = r.Spec
	return &emptypb.Empty{}, nil
}

func (f *failing) Start(context.Context, *taskapi.StartRequest) (*taskapi.StartResponse, error) {
	var p struct{ Args []string }
	if err := json.Unmarshal(f.spec.Value, &p); err != nil {
		return nil, err
	}
	return nil, status.Errorf(codes.NotFound, "exec: %q: executable file not found in $PATH (%s)", p.Args[0], p.Args[0])
}

// TestErrorsDoNotQuote has runc fail to start what a Secret names.
func TestErrorsDoNotQuote(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.1"), []byte(`{"name":"a.1","texts":["hun\"ter2","a"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := service{&failing{}, &told{texts: map[[2]string][]string{}}}
	spec := &anypb.Any{Value: []byte(`{"args":["` + hiddenMark + "0:a.1:" + dir + `"],"env":["B=` + hiddenMark + "1:a.1:" + dir + `"]}`)}
	if _, err := s.Exec(t.Context(), &taskapi.ExecProcessRequest{ID: "c", ExecID: "e", Spec: spec}); err != nil {
		t.Fatal(err)
	}
	_, err := s.Start(t.Context(), &taskapi.StartRequest{ID: "c", ExecID: "e"})
	want := "exec: (from a Secret): executable file not found in $PATH ((from a Secret))"
	if got := status.Convert(err); got.Message() != want || got.Code() != codes.NotFound {
		t.Errorf("it says %v", err)
	}
}

// TestOnlyFilesAreOpened names a pipe, which stands for a device that does something
// when it is opened.
func TestOnlyFilesAreOpened(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	opened, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(opened)
	if _, err := unix.InotifyAddWatch(opened, pipe, unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	if text, err := hidden(hiddenMark + "0:pipe:" + dir); err == nil {
		t.Errorf("a pipe gives %q", text)
	}
	if n, err := unix.Read(opened, make([]byte, 4096)); err != unix.EAGAIN {
		t.Errorf("it was opened: %d bytes, %v", n, err)
	}
}
