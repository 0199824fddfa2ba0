//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

// webhook is a receiver of CloudEvents. It refuses what its rule says.
type webhook struct {
	mu       sync.Mutex
	received []string // type and subject
	rule     func(subject string) int
}

func (h *webhook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	typ, subject := r.Header.Get("Ce-Type"), r.Header.Get("Ce-Subject")
	if r.Header.Get("Content-Type") == "application/cloudevents+json; charset=UTF-8" {
		var e struct{ Type, Subject, Specversion string }
		if err := json.Unmarshal(body, &e); err != nil || e.Specversion != "1.0" {
			http.Error(w, "not a CloudEvent", http.StatusBadRequest)
			return
		}
		typ, subject = e.Type, e.Subject
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if code := h.rule(subject); code != http.StatusOK {
		http.Error(w, "not today", code)
		return
	}
	if r.Header.Get("Authorization") != "Bearer secret" {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	h.received = append(h.received, typ+" "+subject)
}

func (h *webhook) obey(rule func(subject string) int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rule = rule
}

func accept(string) int { return http.StatusOK }

// has says whether an event has come. One that was on its way when a delivery was
// killed may come twice.
func (h *webhook) has(event string) func() error {
	return func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if !slices.Contains(h.received, event) {
			return fmt.Errorf("%s has not come; received were %q", event, h.received)
		}
		return nil
	}
}

// delivers runs `reprise events --to URL` against a receiver that refuses, fails
// and comes back, and kills the command in between.
func (c *cluster) delivers(t *testing.T) {
	c = c.in(t)
	hook := &webhook{rule: accept}
	server := httptest.NewServer(hook)
	defer server.Close()
	args := []string{"events", "--to", server.URL, "--durable", "hook", "--resource", "configmaps", "--namespace", "shop", "--header", "Authorization: Bearer secret"}
	start := func(more ...string) (*exec.Cmd, *transcript) {
		cmd, out := c.command("reprise", append(args, more...)...), &transcript{}
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		c.eventually("the delivery has begun", func() error {
			if !strings.Contains(out.String(), "Delivery hook to "+server.URL) {
				return fmt.Errorf("it says %q", out)
			}
			return nil
		})
		return cmd, out
	}
	kill := func(cmd *exec.Cmd) {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	first, _ := start()
	c.kubectl("create", "configmap", "one", "-n", "shop")
	c.eventually("one is delivered", hook.has("configmap.created configmaps/shop/one"))
	// Two is refused for good, three fails until the receiver is well again.
	hook.obey(func(subject string) int {
		switch {
		case strings.HasSuffix(subject, "/two"):
			return http.StatusUnprocessableEntity
		case strings.HasSuffix(subject, "/three"):
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	for _, name := range []string{"two", "three", "four"} {
		c.kubectl("create", "configmap", name, "-n", "shop")
	}
	c.eventually("four overtakes those of others", hook.has("configmap.created configmaps/shop/four"))
	c.eventually("two is a dead letter", func() error {
		out, err := c.reprise("events", "dead-letters", "list", "hook")
		if err == nil && (!strings.Contains(out, "configmaps/shop/two") || !strings.Contains(out, "422") || strings.Contains(out, "/three")) {
			err = fmt.Errorf("the list is:\n%s", out)
		}
		return err
	})
	kill(first)
	hook.obey(accept)
	c.kubectl("create", "configmap", "five", "-n", "shop")
	second, said := start("--structured")
	c.eventually("three is delivered after the restart", hook.has("configmap.created configmaps/shop/three"))
	c.eventually("five is delivered", hook.has("configmap.created configmaps/shop/five"))
	if !strings.Contains(said.String(), "goes on after event") {
		t.Errorf("the second start says %q", said)
	}
	kill(second)
	if out := c.must("reprise", "events", "dead-letters", "retry", "hook", "--header", "Authorization: Bearer secret"); !strings.Contains(out, "1 of 1 dead letters were accepted") {
		t.Errorf("retry says %q", out)
	}
	c.eventually("two is delivered", hook.has("configmap.created configmaps/shop/two"))
	for _, refused := range []struct{ args, says []string }{
		{[]string{"events", "--to", "ftp://example.com"}, []string{"--to", "ftp://example.com"}},
		{[]string{"events", "--to", "nonsense"}, []string{"--to", "nonsense"}},
		{[]string{"events", "--to", server.URL, "--header", "nonsense"}, []string{"--header", "nonsense"}},
		{[]string{"events", "--to", server.URL, "--durable", "A b"}, []string{`"A b"`, "lower case"}},
		{[]string{"events", "dead-letters", "drop", "hook"}, []string{"--event", "--all"}},
		{[]string{"events", "dead-letters", "retry", "hook"}, []string{"hook", "no dead letters"}},
	} {
		c.refused(c.command("reprise", refused.args...), refused.says...)
	}
}
