package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/reprise-run/reprise/agents/api/past"
)

// rewinder runs `reprise rewind` against a server that takes every point for @812.
type rewinder struct {
	t      *testing.T
	file   string
	asked  string
	server string
}

func newRewinder(t *testing.T) *rewinder {
	r := &rewinder{t: t, file: filepath.Join(t.TempDir(), "config")}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.asked = q.URL.Path
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"sequence":812,"time":"2026-11-26T10:42:00Z"}`)
	}))
	t.Cleanup(s.Close)
	r.server = s.URL
	config := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"prod",
"clusters":[{"name":"c","cluster":{"server":%q}}],"users":[{"name":"u","user":{"token":"t"}}],
"contexts":[{"name":"prod","context":{"cluster":"c","user":"u","namespace":"shop"}}]}`, s.URL)
	if err := os.WriteFile(r.file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rewinder) run(args ...string) (string, error) {
	r.t.Setenv("KUBECONFIG", r.file)
	var out bytes.Buffer
	m := &Main{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out}
	err := m.Run(r.t.Context(), append([]string{"rewind"}, args...))
	return out.String(), err
}

func TestRewindRunsACommand(t *testing.T) {
	r := newRewinder(t)
	for _, args := range [][]string{
		{"-15m", "--", "cat"}, {"--context", "prod", "-15m", "cat"}, {"@7", "--", "cat"}, {"7", "--context=prod", "cat"}, {"10:42", "cat"}, {"--", "now", "cat"},
	} {
		out, err := r.run(append(args[:len(args)-1:len(args)-1], "sh", "-c", `cat "$KUBECONFIG"`)...)
		if err != nil || !strings.Contains(out, r.server+"/rewind/@812") || !strings.Contains(out, "namespace: shop") {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
		if args[0] == "@7" && r.asked != "/rewind/@7" {
			t.Errorf("it asked for %s", r.asked)
		}
	}
}

// How a command ended, and that it could not run, a caller learns as from a shell.
func TestStatusesOfCommands(t *testing.T) {
	r := newRewinder(t)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	for status, command := range map[int][]string{
		3: {"sh", "-c", "exit 3"}, 137: {"sh", "-c", "kill -9 $$"}, 126: {plain}, 127: {"no-such-program"}, 0: {"true"},
	} {
		said, err := r.run(append([]string{"now", "--"}, command...)...)
		var code exitCode
		if errors.As(err, &code); int(code) != status || err != nil && status == 0 {
			t.Errorf("%q ends with %v, not with %d", command, err, status)
		}
		if strings.Contains(said, "cannot run "+command[0]) != (status == notFound || status == notExecutable) {
			t.Errorf("of %q it says %q", command, said)
		}
	}
}

func TestRewindAddsAContext(t *testing.T) {
	r := newRewinder(t)
	for range 2 { // The second time changes nothing.
		if out, err := r.run("-15m", "--serve"); err != nil || !strings.Contains(out, "prod@812") {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	// From a moment one gets to others.
	if out, err := r.run("--context", "prod@812", "@812", "--", "sh", "-c", `cat "$KUBECONFIG"`); err != nil || strings.Count(out, "/rewind/") != 1 {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := r.run("--remove", "prod"); err == nil || !strings.Contains(err.Error(), "prod@812") {
		t.Errorf("a context of the present could be removed: %v", err)
	}
	if out, err := r.run("--remove"); err != nil || !strings.Contains(out, "prod@812") {
		t.Errorf("%v\n%s", err, out)
	}
	left, err := os.ReadFile(r.file)
	if err != nil || strings.Contains(string(left), "@812") || !strings.Contains(string(left), "current-context: prod") {
		t.Errorf("%v, left is\n%s", err, left)
	}
	if out, err := r.run("--remove"); err != nil || !strings.Contains(out, "no context of the past") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestRewindRefuses(t *testing.T) {
	r := newRewinder(t)
	for says, args := range map[string][]string{
		"to which moment?":          {},
		"names no moment":           {"yesterday", "--", "kubectl"},
		"did you mean -15m":         {"15m", "--", "kubectl"},
		"unknown flag: --frobnicat": {"-15m", "--frobnicate"},
		"leave out either":          {"-15m", "--serve", "--", "kubectl"},
		`has no context "other"`:    {"-15m", "--context", "other"},
	} {
		if out, err := r.run(args...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
	}
	if out, err := r.run("--help"); err != nil || !strings.Contains(out, "Usage:") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestRewoundNames makes names of contexts of the past, also of one with an @, such as
// kubeadm gives.
func TestRewoundNames(t *testing.T) {
	for from, want := range map[string]string{
		"prod": "prod@812", "prod@7": "prod@812", "admin@prod": "admin@prod@812", "admin@prod@7": "admin@prod@812", "@7": "@7@812",
	} {
		if got := contextName(from, past.Moment{Sequence: 812}); got != want {
			t.Errorf("%s becomes %s, not %s", from, got, want)
		}
	}
	a := &access{config: &clientcmdapi.Config{Contexts: map[string]*clientcmdapi.Context{"prod": {}, "admin@prod": {}}}}
	for name, want := range map[string]string{"prod@812": "prod", "admin@prod@812": "admin@prod", "gone@812": ""} {
		if got := a.base(name); got != want {
			t.Errorf("%s was made from %q, not %q", name, got, want)
		}
	}
}
