//go:build e2e

package e2e

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
)

// TestSecondStart shows that a start finds the cluster as it was left, with or
// without the projection, damaged or whole.
func TestSecondStart(t *testing.T) {
	c := newCluster(t)
	c.apply(web)
	c.kubectl("rollout", "status", "deployment/web", "--timeout=2m")
	c.eventually("the log is at rest", c.atRest())
	before, containers := c.state(), c.containers()

	projection := filepath.Join(c.dir, "projection")
	const rebuilt = "the projection cannot be used"
	for _, damage := range []struct {
		name    string
		do      func(t *testing.T)
		rebuilt int
	}{
		{"as it was left", func(t *testing.T) {
			if strings.Contains(c.output.String(), "level=") {
				t.Errorf("a healthy cluster complains:\n%s", c.tail())
			}
		}, 0},
		{"without the projection", func(t *testing.T) { check(t, os.RemoveAll(projection)) }, 0},
		{"with truncated tables", func(t *testing.T) {
			rewrite(t, projection, "*.sst", func(b []byte) []byte { return b[:len(b)/2] })
		}, 1},
		{"with an empty manifest", func(t *testing.T) {
			rewrite(t, projection, "MANIFEST-*", func([]byte) []byte { return nil })
		}, 1},
		{"with corrupt tables", func(t *testing.T) {
			rewrite(t, projection, "*.sst", func(b []byte) []byte {
				for i := range min(len(b), 1<<16) {
					b[i] ^= 0x5a
				}
				return b
			})
		}, 1},
	} {
		t.Run(damage.name, func(t *testing.T) {
			c := c.in(t)
			c.stop()
			damage.do(t)
			c.start()
			if got := strings.Count(c.output.String(), rebuilt); got != damage.rebuilt {
				t.Errorf("it says %d times that the projection is rebuilt, and should %d times:\n%s", got, damage.rebuilt, c.tail())
			}
			if after := c.state(); after != before {
				t.Errorf("the state is another.\nbefore:\n%s\nafter:\n%s", before, after)
			}
			if after := c.containers(); after != containers {
				t.Errorf("the start has disturbed containers.\nbefore:\n%s\nafter:\n%s", containers, after)
			}
			if out := c.must("reprise", "verify"); !strings.Contains(out, "identical") {
				t.Errorf("reprise verify printed:\n%s", out)
			}
		})
	}
}

// TestNewerLog shows that a program stops at what only a newer one understands,
// says so, and leaves the log alone.
func TestNewerLog(t *testing.T) {
	c := newCluster(t)
	c.invented = "pod.teleported"
	c.stop()
	added := c.withLog(func(log *jetstream.Log, last events.Event) uint64 {
		e := events.Event{
			Sequence: last.Sequence + 1, Type: c.invented, Time: last.Time,
			Object: events.Ref{Resource: "pods", Namespace: "default", Name: "far"}, UID: "1",
			Actor: events.Actor{Kind: "scheduler", Version: "99"}, Data: []byte(`[]`),
		}
		e.Chain = events.Link(last.Chain, &e)
		to, err := log.Append(t.Context(), last.Sequence, []events.Event{e})
		check(t, err)
		return to
	})
	for range 2 {
		c.refused(c.command("reprise", "up"), "pod.teleported", "does not know", "upgrade reprise")
	}
	c.withLog(func(_ *jetstream.Log, last events.Event) uint64 {
		if last.Sequence != added || last.Type != c.invented {
			t.Errorf("the log ends with %s at %d, and not with what was appended at %d", last.Type, last.Sequence, added)
		}
		return last.Sequence
	})
}

// withLog opens the log of a stopped cluster and shows its last event.
func (c *cluster) withLog(do func(*jetstream.Log, events.Event) uint64) uint64 {
	c.t.Helper()
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: filepath.Join(c.dir, "log")})
	check(c.t, err)
	defer server.Shutdown()
	nc, err := server.Connect()
	check(c.t, err)
	defer nc.Close()
	log, err := jetstream.History(c.t.Context(), nc, jetstream.Config{})
	check(c.t, err)
	at, err := log.Last(c.t.Context())
	check(c.t, err)
	last, err := log.Get(c.t.Context(), at)
	check(c.t, err)
	return do(log, last)
}

// TestFullDisk fills the disk in two ways: from outside, and by what is written
// to the log itself.
func TestFullDisk(t *testing.T) {
	disk := t.TempDir()
	check(t, syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=96m"))
	t.Cleanup(func() { check(t, syscall.Unmount(disk, syscall.MNT_DETACH)) })
	c := unstarted(t)
	c.dir = disk
	c.start()
	c.kubectl("create", "configmap", "kept")

	filler := filepath.Join(disk, "filler")
	acknowledged := append([]string{"configmap/kept"}, c.fullDisk(filler)...)
	c.kubectl("get", "configmap", "kept")
	check(t, os.Remove(filler))
	c.eventually("there is room again", func() error {
		out, err := c.try("kubectl", "create", "configmap", "later")
		if strings.Contains(out, "already exists") {
			err = nil // An answer was lost, and not what it would have told.
		}
		return err
	})

	big := filepath.Join(t.TempDir(), "big")
	noise := make([]byte, 700_000) // cannot be compressed
	_, err := rand.Read(noise)
	check(t, err)
	check(t, os.WriteFile(big, noise, 0o600))
	acknowledged = append(acknowledged, "configmap/later")
	for i := 0; ; i++ {
		if i > 500 {
			t.Fatal("400 MB fit on a disk of 96")
		}
		name := fmt.Sprintf("big-%d", i)
		out, err := c.try("kubectl", "create", "configmap", name, "--from-file", big)
		if err != nil {
			if !strings.Contains(out, "full") {
				t.Errorf("the full disk is reported as:\n%s", out)
			}
			break
		}
		acknowledged = append(acknowledged, "configmap/"+name)
	}
	c.stop()
	check(t, syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=512m"))
	c.start()
	have := c.kubectl("get", "configmaps", "-o", "name")
	for _, name := range acknowledged {
		if !strings.Contains(have+"\n", name+"\n") {
			t.Errorf("%s was acknowledged and is gone", name)
		}
	}
	c.kubectl("create", "configmap", "latest")
	if out := c.must("reprise", "verify"); !strings.Contains(out, "identical") {
		t.Errorf("reprise verify printed:\n%s", out)
	}
}

// fullDisk fills the disk and checks what a person is told whose change has no room.
// As long as the server removes what it needs no more, there may be some; it returns
// what was acknowledged.
func (c *cluster) fullDisk(filler string) (acknowledged []string) {
	c.t.Helper()
	var out string
	c.eventually("a change is refused that the disk has no room for", func() (err error) {
		check(c.t, fill(filler))
		name := fmt.Sprintf("small-%d", len(acknowledged))
		if out, err = c.try("kubectl", "create", "configmap", name); err != nil {
			return nil
		}
		acknowledged = append(acknowledged, "configmap/"+name)
		return errors.New(out)
	})
	for _, part := range []string{"the disk of the log", c.dir, "make room"} {
		if !strings.Contains(out, part) {
			c.t.Errorf("kubectl does not say %q:\n%s", part, out)
		}
	}
	return acknowledged
}

// fill makes a file longer until the disk is full.
func fill(path string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 16 {
		for {
			if _, err := io.Copy(f, bytes.NewReader(make([]byte, size))); errors.Is(err, syscall.ENOSPC) {
				break
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}

// rewrite changes the files of a directory that have a pattern.
func rewrite(t *testing.T, dir, pattern string, change func([]byte) []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no file %s in %s (%v)", pattern, dir, err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		check(t, err)
		check(t, os.WriteFile(file, change(content), 0o600))
	}
}
