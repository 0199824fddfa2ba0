//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// session is a kubectl that runs, with something to type into.
type session struct {
	*transcript
	stdin io.WriteCloser
	end   func(os.Signal) error
	wait  func() error
}

// session starts kubectl; on a terminal if so asked, which the program script
// makes.
func (s *space) session(terminal bool, args ...string) *session {
	s.t.Helper()
	cmd := s.command("kubectl", append([]string{"-n", s.name}, args...)...)
	if terminal {
		var line []string
		for _, arg := range cmd.Args[1:] {
			line = append(line, "'"+arg+"'")
		}
		cmd.Args = []string{"script", "-qefc", cmd.Path + " " + strings.Join(line, " "), "/dev/null"}
		cmd.Path = "/usr/bin/script"
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out := &transcript{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	wait := sync.OnceValue(cmd.Wait)
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = wait()
	})
	return &session{transcript: out, stdin: stdin, wait: wait, end: cmd.Process.Signal}
}

// prints waits until a session has printed what matches.
func (s *space) prints(in *session, pattern string) {
	s.t.Helper()
	want := regexp.MustCompile(pattern)
	s.eventually("kubectl prints "+pattern, func() error {
		if !want.MatchString(in.String()) {
			return fmt.Errorf("it prints %q", in)
		}
		return nil
	})
}

func (s *space) types(in *session, text string) {
	s.t.Helper()
	if _, err := io.WriteString(in.stdin, text); err != nil {
		s.t.Fatal(err)
	}
}

// testLogOptions shows the ways to read logs.
func testLogOptions(t *testing.T, s *space) {
	s.ready(`
apiVersion: v1
kind: Pod
metadata: {name: talk, labels: {app: talk}}
spec:
  terminationGracePeriodSeconds: 0
  initContainers: [{name: before, image: "reprise.run/demo:1", command: [echo, before]}]
  containers:
  - name: a
    image: reprise.run/demo:1
    command: [sh, -c, "n=$(cat /tmp/out/n 2>/dev/null); echo try $((n+1)); while ! [ -f /tmp/out/heard ]; do sleep 0.1; done; echo to stderr >&2; echo $((n+1)) > /tmp/out/n; while ! [ -f /tmp/go ]; do sleep 0.1; done; echo later; while ! [ -f /tmp/end ]; do sleep 0.1; done; exit 1"]
    volumeMounts: [{name: out, mountPath: /tmp/out}]
  - {name: b, image: "reprise.run/demo:1", command: [sh, -c, "for i in 1 2 3 4 5; do echo line $i; done; exec sleep 1000"]}
  volumes: [{name: out, emptyDir: {}}]
---
apiVersion: v1
kind: Pod
metadata: {name: listen, labels: {app: talk}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: a, image: "reprise.run/demo:1", command: [sh, -c, "echo I listen; exec sleep 1000"]}]
`)
	follow := s.session(false, "logs", "-f", "talk", "-c", "a")
	s.prints(follow, "^try 1\n$")
	s.sh("talk", "touch /tmp/out/heard") // Two streams that are written to at once have no order.
	s.prints(follow, "^try 1\nto stderr\n$")
	between := strings.TrimSpace(s.sh("talk", "sleep 1; date -u +%Y-%m-%dT%H:%M:%SZ; touch /tmp/go"))
	s.prints(follow, "^try 1\nto stderr\nlater\n$")

	logs := func(want string, args ...string) {
		t.Helper()
		if got := s.kubectl(append([]string{"logs"}, args...)...); got != want {
			t.Errorf("kubectl logs %s prints\n%swant\n%s", strings.Join(args, " "), got, want)
		}
	}
	logs("before\n", "talk", "-c", "before")
	logs("line 4\nline 5\n", "talk", "-c", "b", "--tail=2")
	logs("", "talk", "-c", "b", "--tail=0")
	logs("line 1", "talk", "-c", "b", "--limit-bytes=6")
	logs("later\n", "talk", "-c", "a", "--since-time="+between)
	logs("try 1\nto stderr\nlater\n", "talk", "-c", "a", "--since=10m")
	all := s.kubectl("logs", "talk", "--all-containers", "--prefix")
	s.lines("kubectl logs --all-containers", all, "[pod/talk/before] before", "[pod/talk/a] try 1", "[pod/talk/b] line 5")
	s.lines("kubectl logs -l", s.kubectl("logs", "-l", "app=talk", "--all-containers"), "later", "line 1", "I listen")
	if got := s.kubectl("logs", "talk", "-c", "b", "--timestamps", "--tail=1"); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z line 5\n$`).MatchString(got) {
		t.Errorf("kubectl logs --timestamps prints %q", got)
	}
	if out, err := s.try("logs", "talk", "-c", "a", "--previous"); err == nil || !strings.Contains(out, "previous terminated container") {
		t.Errorf("there is no previous log yet: %v\n%s", err, out)
	}
	if out, err := s.try("logs", "talk", "-c", "none"); err == nil || !strings.Contains(out, "none") {
		t.Errorf("the log of no container: %v\n%s", err, out)
	}

	s.sh("talk", "touch /tmp/end")
	if err := follow.wait(); err != nil {
		t.Errorf("kubectl logs -f does not end well with the container: %v\n%s", err, follow)
	}
	s.until("talk", ".status.containerStatuses[0].restartCount", "1")
	s.waits("pod/talk", "--for=condition=Ready")
	logs("try 1\nto stderr\nlater\n", "talk", "-c", "a", "--previous")
	s.eventually("the second try is told", func() error {
		out, err := s.try("logs", "talk", "-c", "a")
		if err == nil && !containsAll(out, "try 2\n", "to stderr\n") {
			err = errors.New(out)
		}
		return err
	})
}

const shell = `
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: a, image: "reprise.run/demo:1", readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}}]
`

// testTerminal shows exec and run on a terminal.
func testTerminal(t *testing.T, s *space) {
	s.ready(shell)
	in := s.session(true, "exec", "-it", "p", "--", "sh")
	s.prints(in, "# ")
	s.types(in, "tty; echo $((6*7))\n")
	s.prints(in, `/dev/pts/\d+\s+42\s`)
	s.types(in, "sleep 1000\n")
	s.eventuallySays("p", "ps | grep -c '[s]leep 1000'", "1")
	s.types(in, "\x03") // Ctrl-C goes to the program, not to kubectl.
	s.types(in, "echo still $((40+4)); exit 5\n")
	s.prints(in, `still 44`)
	if err := in.wait(); err == nil || !strings.Contains(err.Error(), "exit status 5") {
		t.Errorf("exit 5 on a terminal ends kubectl with %v:\n%s", err, in)
	}

	run := s.session(true, "run", "-it", "--rm", "visit", "--image=reprise.run/demo:1", "--restart=Never", "--grace-period=1", "--command", "--", "sh")
	s.types(run, "hostname; echo by $((4*11))\n")
	s.prints(run, `visit\s+by 44`)
	s.types(run, "exit\n")
	if err := run.wait(); err != nil || !strings.Contains(run.String(), `pod "visit" deleted`) {
		t.Errorf("kubectl run -it --rm: %v\n%s", err, run)
	}

	// Without a terminal: streams stay apart, input has an end, codes come back.
	cmd := s.command("kubectl", "-n", s.name, "exec", "-i", "p", "--", "sh", "-c", "cat; echo bad >&2; exit 3")
	var out, bad bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(strings.Repeat("much to read\n", 100_000)), &out, &bad
	err := cmd.Run()
	if err == nil || cmd.ProcessState.ExitCode() != 3 || out.Len() != 1_300_000 || !strings.HasPrefix(bad.String(), "bad\n") {
		t.Errorf("exec -i: %v, %d bytes of output, error output %q", err, out.Len(), bad.String())
	}
	if out, err := s.try("exec", "p", "--", "no-such-program"); err == nil || !strings.Contains(out, "no-such-program") {
		t.Errorf("exec of what is not there: %v\n%s", err, out)
	}
}

// slowly passes on what it reads at some bytes a second.
type slowly struct {
	io.Reader
	rate int
}

func (s slowly) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p[:min(len(p), s.rate/10)])
	<-time.After(time.Duration(n) * time.Second / time.Duration(s.rate))
	return n, err
}

// testSlowReader reads what a command printed long after it has ended.
func testSlowReader(t *testing.T, s *space) {
	s.ready(shell)
	const size = 20 << 20
	cmd := s.command("kubectl", "-n", s.name, "exec", "p", "--", "head", "-c", strconv.Itoa(size), "/dev/zero")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	said := &transcript{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, slowly{out, 2 << 20})
	if err := errors.Join(err, cmd.Wait()); err != nil || n != size {
		t.Errorf("%d bytes of %d arrived: %v\n%s", n, size, err, said)
	}
}

// testAttach shows attach: to output alone, with input, on a terminal.
func testAttach(t *testing.T, s *space) {
	s.ready(`
apiVersion: v1
kind: Pod
metadata: {name: echo}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: a, image: "reprise.run/demo:1", stdin: true, command: [sh, -c, "while read line; do echo got $line; done; echo end; exec sleep 1000"]}
---
apiVersion: v1
kind: Pod
metadata: {name: once}
spec:
  restartPolicy: Never
  containers: [{name: a, image: "reprise.run/demo:1", stdin: true, stdinOnce: true, command: [sh, -c, "cat; echo end"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: terminal}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: a, image: "reprise.run/demo:1", stdin: true, tty: true, command: [sh]}]
`)
	watch := s.session(false, "attach", "echo")
	for _, word := range []string{"one", "two"} {
		in := s.session(false, "attach", "-i", "echo")
		s.types(in, word+"\n")
		s.prints(in, "got "+word+"\n")
		if err := in.end(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		_ = in.wait()
	}
	// Attaching takes a while, of which nobody tells the end.
	again := s.session(false, "attach", "-i", "echo")
	s.eventually("who was attached from the beginning hears it too", func() error {
		s.types(again, "three\n")
		if !strings.Contains(watch.String(), "got three\n") {
			return fmt.Errorf("it prints %q", watch)
		}
		return nil
	})

	out, err := s.feed(strings.NewReader("all there is\n"), "kubectl", "-n", s.name, "attach", "-i", "once")
	if err != nil || !strings.Contains(out, "all there is\n") {
		t.Errorf("attach -i: %v\n%s", err, out)
	}
	s.until("once", ".status.phase", "Succeeded")
	if out := s.kubectl("logs", "once"); out != "all there is\nend\n" {
		t.Errorf("the container printed %q", out)
	}

	in := s.session(true, "attach", "-it", "terminal")
	s.types(in, "echo by $((4*11))\n")
	s.prints(in, `by 44`)
}

// testCopyDirectory shows cp of a directory, there and back.
func testCopyDirectory(t *testing.T, s *space) {
	s.ready(shell)
	from, back := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "back")
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	for name, content := range map[string][]byte{"one": []byte("1\n"), "deep/er/two": []byte("2\n"), "big": big} {
		path := filepath.Join(from, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.kubectl("cp", from, "p:/tmp/there")
	s.says("p", "cd /tmp/there; find . -type f | sort; cat one deep/er/two; stat -c %s big", "./big\n./deep/er/two\n./one\n1\n2\n4194304")
	s.kubectl("cp", s.name+"/p:/tmp/there", back, "-c", "a")
	for name, want := range map[string]string{"one": "1\n", "deep/er/two": "2\n", "big": string(big)} {
		if got := read(t, back, name); got != want {
			t.Errorf("%s came back with %d bytes, not %d", name, len(got), len(want))
		}
	}
}

// testForward sends many requests through a forwarded port, some at a time.
func testForward(t *testing.T, s *space) {
	s.ready(shell)
	forward := s.session(false, "port-forward", "pod/p", ":8080", ":1")
	s.prints(forward, `Forwarding from 127\.0\.0\.1:\d+ -> 1\n`)
	ports := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindAllString(forward.String(), 2)
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	body := bytes.Repeat([]byte("through the tunnel "), 50_000)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 5 {
				if err := echo(client, "http://"+ports[0]+"/echo", body); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	// A port on which nobody listens fails, and says so; kubectl then gives up.
	if answer, err := client.Get("http://" + ports[1] + "/"); err == nil {
		answer.Body.Close()
		t.Error("a port on which nobody listens answers")
	}
	s.prints(forward, "onnection refused")
}

func echo(client *http.Client, url string, body []byte) error {
	answer, err := client.Post(url, "text/plain", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err == nil && !bytes.Equal(got, body) {
		err = errors.New(url + " does not echo what it was told")
	}
	return err
}

// testDebug adds a container to a pod that runs.
func testDebug(t *testing.T, s *space) {
	s.ready(shell)
	s.kubectl("debug", "p", "--image=reprise.run/demo:1", "--container=look", "--target=a", "--profile=general", "--",
		"sh", "-c", "ps; wget -q -O - http://127.0.0.1:8080/; exec sleep 1000")
	s.waits("pod/p", "--for=jsonpath={.status.ephemeralContainerStatuses[0].state.running}")
	s.eventually("the container sees the other's process and port", func() error {
		out, err := s.try("logs", "p", "-c", "look")
		if err == nil && !containsAll(out, "demo", "Hello from demo 1 on p") {
			err = fmt.Errorf("it prints\n%s", out)
		}
		return err
	})
	s.has("p", "0", ".status.containerStatuses[0].restartCount")
	in := s.session(true, "debug", "-it", "p", "--image=reprise.run/demo:1", "--container=hand", "--profile=general", "--", "sh")
	s.types(in, "echo by $((4*11))\n")
	s.prints(in, "by 44")
	s.types(in, "exit 3\n")
	s.until("p", ".status.ephemeralContainerStatuses[1].state.terminated.exitCode", "3")
}
