//go:build e2e

package e2e

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"golang.org/x/sys/unix"

	"github.com/reprise-run/reprise/agents/api/seal"
	"github.com/reprise-run/reprise/events/jetstream"
)

const password = "hunter2-and-a-horse"

// secretAndUser is a Secret and a pod that uses it in all the ways there are.
const secretAndUser = `
apiVersion: v1
kind: Secret
metadata: {name: db, labels: {app: shop}}
stringData: {password: ` + password + `, user: somebody-nice}
---
apiVersion: v1
kind: Pod
metadata: {name: user}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: db, secret: {secretName: db}}]
  containers:
  - name: a
    image: reprise.run/demo:1
    volumeMounts: [{name: db, mountPath: /db}]
    env:
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}
    - {name: BOTH, value: "$(PASSWORD)/x"}
    envFrom: [{secretRef: {name: db}, prefix: DB_}]
    command: [sh, -c, 'echo "$0" > /dev/shm/argument; sleep 1000', "$(PASSWORD)"]
    readinessProbe: {exec: {command: [sh, -c, 'test "$PASSWORD" = "$(cat /db/password)"']}, periodSeconds: 1}
`

// TestSecrets leads a Secret from its creation to its end, with a pod that uses it,
// and looks for what it says in everything that lies on the disk.
func TestSecrets(t *testing.T) {
	c := newCluster(t)
	c.apply(secretAndUser)
	c.kubectl("wait", "--for=condition=Ready", "pod/user", "--timeout=2m")
	use := func() {
		t.Helper()
		look := "cat /db/password; echo; grep -c ' /db tmpfs ' /proc/mounts; echo $PASSWORD $BOTH $DB_user; cat /dev/shm/argument; tr '\\0' '\\n' < /proc/1/environ | grep ^PASSWORD="
		want := password + "\n1\n" + password + " " + password + "/x somebody-nice\n" + password + "\nPASSWORD=" + password + "\n"
		if out := c.kubectl("exec", "user", "--", "sh", "-c", look); out != want {
			t.Errorf("the pod sees %q, want %q", out, want)
		}
	}
	use()
	out := c.must("reprise", "history", "secrets/default/db")
	if strings.Contains(out, password) || !strings.Contains(out, "secret.created") {
		t.Errorf("history says\n%s", out)
	}
	c.searchDisk("while the pod runs", password, "somebody-nice")
	record := c.vaultRecord(`"name":"db"`)
	if record == "" {
		t.Error("the vault has no key of the Secret")
	}

	c.stop()
	c.searchLog(password, "somebody-nice")
	c.losesClusterKey()
	c.start()
	c.kill()
	c.searchDisk("after a crash", password, "somebody-nice")
	c.start()
	use()
	if out := c.kubectl("get", "secret/db", "-o", "jsonpath={.data.password}"); out != base64.StdEncoding.EncodeToString([]byte(password)) {
		t.Errorf("after a crash the Secret says %q", out)
	}

	if out := c.must("reprise", "secrets", "rotate"); !strings.Contains(out, "wrapped anew") {
		t.Errorf("rotate says %q", out)
	}
	if now := c.vaultRecord(`"name":"db"`); now == "" || now == record {
		t.Errorf("after the rotation the vault has %q", now)
	}
	user := base64.StdEncoding.EncodeToString([]byte("somebody-nice"))
	before := fmt.Sprintf("@%d", c.moment("now").Sequence)
	if out := c.must("reprise", "rewind", before, "--", "kubectl", "get", "secret/db", "-o", "jsonpath={.data.user}"); out != user {
		t.Errorf("as it was a moment ago the Secret says %q", out)
	}
	c.kubectl("delete", "pod/user", "secret/db")
	if left := c.vaultRecord(`"name":"db"`); left != "" {
		t.Errorf("the Secret is deleted, and its key is in a file: %s", left)
	}
	if out := c.must("reprise", "history", "secrets/default/db"); !strings.Contains(out, "secret.deleted") || strings.Contains(out, password) {
		t.Errorf("history says\n%s", out)
	}
	if out := c.must("reprise", "rewind", before, "--", "kubectl", "get", "secrets", "-o", "json"); !containsAll(out, `"user": ""`, seal.Erased, `"app": "shop"`) || strings.Contains(out, user) {
		t.Errorf("as it was before its deletion the Secret says\n%s", out)
	}
	c.stop()
	c.start()
	if left := c.vaultRecord(`"name":"db"`); left != "" {
		t.Errorf("after a restart its key is in a file: %s", left)
	}
	c.searchDisk("after the end", password, "somebody-nice")
}

// losesClusterKey starts without the cluster key, and with another one.
func (c *cluster) losesClusterKey() {
	c.t.Helper()
	file := filepath.Join(c.dir, "seal", "encryption.yaml")
	kept, err := os.ReadFile(file)
	if err != nil {
		c.t.Fatal(err)
	}
	another := filepath.Join(c.t.TempDir(), "another.yaml")
	secret := regexp.MustCompile("secret: .*").ReplaceAll(kept, []byte("secret: "+base64.StdEncoding.EncodeToString(make([]byte, 32))))
	if err := errors.Join(os.WriteFile(another, secret, 0o600), os.Remove(file)); err != nil {
		c.t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"is gone, which":             {"up"},
		"put that key back":          {"up", "--encryption-config", another},
		"no such file":               {"up", "--encryption-config", file},
		"no EncryptionConfiguration": {"up", "--encryption-config", c.kubeconfig()},
	} {
		if out, err := c.endsSoon(args...); err == nil || !strings.Contains(out, want) {
			c.t.Errorf("reprise %s says %q, %v; want %q", strings.Join(args, " "), out, err, want)
		}
	}
	if err := os.WriteFile(file, kept, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// endsSoon runs one of our commands, which goes on for ever if it does not fail.
func (c *cluster) endsSoon(args ...string) (string, error) {
	cmd := c.command("reprise", args...)
	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Signal(syscall.SIGINT) })
	defer timer.Stop()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// forms are a text as it may lie on a disk: as it is, in base64 (in which three
// bytes make four letters, so that it looks different at each of three places), and
// in base64 of those.
func forms(text string) (all [][]byte) {
	all = [][]byte{[]byte(text)}
	for _, t := range append(encoded(text), func() (twice []string) {
		for _, once := range encoded(text) {
			twice = append(twice, encoded(once)...)
		}
		return twice
	}()...) {
		all = append(all, []byte(t))
	}
	return all
}

// encoded is what base64 makes of a text at each alignment, whatever stands before
// and after it.
func encoded(text string) (all []string) {
	for shift := range 3 {
		whole := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + text))
		from := []int{0, 2, 3}[shift]
		all = append(all, whole[from:(shift+len(text))/3*4])
	}
	return all
}

func holds(content []byte, texts ...string) string {
	for _, text := range texts {
		for _, form := range forms(text) {
			if bytes.Contains(content, form) {
				return fmt.Sprintf("%q as %q", text, form)
			}
		}
	}
	return ""
}

// searchDisk looks into every file of the data directory and of the run directory,
// but for memory file systems, which are mounted there for containers, and for
// network namespaces, which are no files.
func (c *cluster) searchDisk(when string, texts ...string) {
	c.t.Helper()
	for _, dir := range []string{c.dir, c.run} {
		c.searchDir(when, dir, texts...)
	}
}

func (c *cluster) searchDir(when, dir string, texts ...string) {
	c.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() && path != dir && (d.Name() == "netns" || inMemory(path)) {
			return fs.SkipDir
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if found := holds(content, texts...); found != "" {
			c.t.Errorf("%s: %s holds %s", when, path, found)
		}
		return err
	})
	if err != nil {
		c.t.Error(err)
	}
}

// searchLog reads, with the server down, what is compressed: every event, and every
// value of the projection.
func (c *cluster) searchLog(texts ...string) {
	c.t.Helper()
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: filepath.Join(c.dir, "log")})
	if err != nil {
		c.t.Fatal(err)
	}
	defer s.Shutdown()
	nc, err := s.Connect()
	if err != nil {
		c.t.Fatal(err)
	}
	defer nc.Close()
	open := []func() (*jetstream.Log, error){
		func() (*jetstream.Log, error) { return jetstream.History(c.t.Context(), nc, jetstream.Config{}) },
		func() (*jetstream.Log, error) { return jetstream.Volatile(c.t.Context(), nc, jetstream.Config{}) },
	}
	read := 0
	for _, open := range open {
		log, err := open()
		if err != nil {
			c.t.Fatal(err)
		}
		first, err := log.First(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		last, err := log.Last(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		for i := first; i <= last; i++ {
			e, err := log.Get(c.t.Context(), i)
			if err != nil {
				c.t.Fatal(err)
			}
			read++
			if found := holds(append(e.Data, e.Note...), texts...); found != "" {
				c.t.Errorf("event %d, %s %s, holds %s", i, e.Type, e.Object, found)
			}
		}
	}
	db, err := pebble.Open(filepath.Join(c.dir, "projection"), &pebble.Options{ReadOnly: true})
	if err != nil {
		c.t.Fatal(err)
	}
	defer db.Close()
	iter, err := db.NewIter(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer iter.Close()
	values := 0
	for ok := iter.First(); ok; ok = iter.Next() {
		values++
		if found := holds(iter.Value(), texts...); found != "" {
			c.t.Errorf("the projection holds %s at %q", found, iter.Key())
		}
	}
	if read < 100 || values < 100 {
		c.t.Errorf("only %d events and %d values were read", read, values)
	}
}

// vaultRecord is the beginning of the first record with a text in the files of the
// vault.
func (c *cluster) vaultRecord(text string) string {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.dir, "log", "jetstream", "*", "streams", "REPRISE_VAULT", "msgs", "*.blk"))
	if err != nil || len(files) == 0 {
		c.t.Fatalf("the vault has no files: %v", err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			c.t.Fatal(err)
		}
		if i := bytes.Index(content, []byte(text)); i >= 0 {
			return string(content[max(0, i-40):min(len(content), i+200)])
		}
	}
	return ""
}

// inMemory says whether a directory is one that a memory file system is mounted on.
func inMemory(dir string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(dir, &fs) == nil && fs.Type == unix.TMPFS_MAGIC
}
