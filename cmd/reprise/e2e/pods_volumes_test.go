//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

func containsAll(text string, parts ...string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}

// testScratchVolumes shows emptyDir: shared by containers, outliving them, gone
// with the pod.
func testScratchVolumes(t *testing.T, s *space) {
	s.ready(`
apiVersion: v1
kind: Pod
metadata: {name: scratch}
spec:
  terminationGracePeriodSeconds: 0
  volumes:
  - {name: disk, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  containers:
  - name: a
    image: reprise.run/demo:1
    volumeMounts:
    - {name: disk, mountPath: /disk}
    - {name: memory, mountPath: /memory}
    - {name: disk, mountPath: /part, subPath: deep/part}
    - {name: disk, mountPath: /mine, subPathExpr: $(NAME)}
    - {name: disk, mountPath: /look, readOnly: true}
    env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
  - {name: b, image: "reprise.run/demo:1", command: [sleep, "1000"], volumeMounts: [{name: disk, mountPath: /other}]}
`)
	s.says("scratch", "echo kept > /disk/file; echo part > /part/file; echo mine > /mine/file; cat /disk/deep/part/file /disk/scratch/file", "part\nmine")
	s.says("scratch", "touch /look/x 2>&1 | grep -o 'Read-only'; stat -c %a /disk", "Read-only\n777")
	s.says("scratch", "grep -c ' /memory tmpfs ' /proc/mounts; df -k /memory | tail -1 | awk '{print $2}'", "1\n1024")
	s.says("scratch", "head -c 2m /dev/zero 2>/dev/null > /memory/big || stat -c %s /memory/big", "1048576")
	if out := s.kubectl("exec", "scratch", "-c", "b", "--", "cat", "/other/file"); out != "kept\n" {
		t.Errorf("the other container sees %q", out)
	}
	_, _ = s.try("exec", "scratch", "--", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/exit?code=1") // It ends with the container.
	s.until("scratch", ".status.containerStatuses[0].restartCount", "1")
	s.waits("pod/scratch", "--for=condition=Ready")
	s.says("scratch", "cat /disk/file /part/file; stat -c %s /memory/big", "kept\npart\n1048576")

	uid := s.field("scratch", ".metadata.uid")
	here := func() []string {
		found, err := filepath.Glob(filepath.Join(s.dir, "*", "*", "pods", uid))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if len(here()) != 1 {
		t.Errorf("the pod's directory is not where it was thought to be: %v", here())
	}
	s.kubectl("delete", "pod", "scratch")
	// A pod with no grace is gone before its containers are.
	s.eventually("the pod's directory is gone, and all that was mounted in it", func() error {
		if left := here(); len(left) > 0 || strings.Contains(read(t, "/proc/mounts"), uid) {
			return fmt.Errorf("it is not: %v", left)
		}
		return nil
	})
}

// testHostPath shows the types of hostPath.
func testHostPath(t *testing.T, s *space) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("of the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pod := func(name, kind, path string) string {
		return `
---
apiVersion: v1
kind: Pod
metadata: {name: ` + name + `}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: v, hostPath: {path: ` + filepath.Join(dir, path) + `, type: ` + kind + `}}]
  containers: [{name: a, image: "reprise.run/demo:1", command: [sleep, "1000"], volumeMounts: [{name: v, mountPath: /v}]}]
`
	}
	s.create(pod("file", "File", "file") + pod("dir", "Directory", ".") + pod("new-dir", "DirectoryOrCreate", "made/here") +
		pod("new-file", "FileOrCreate", "created") + pod("socket", "Socket", "socket") + pod("any", `""`, "file") +
		pod("absent", "Directory", "absent") + pod("wrong", "Directory", "file"))
	s.waits("pod/file", "pod/dir", "pod/new-dir", "pod/new-file", "pod/socket", "pod/any", "--for=condition=Ready")
	s.says("file", "cat /v", "of the host")
	s.sh("new-dir", "echo to the host > /v/file")
	s.sh("new-file", "echo to the host > /v")
	s.says("socket", "test -S /v && echo socket", "socket")
	for _, path := range []string{"made/here/file", "created"} {
		if got := read(t, dir, path); got != "to the host\n" {
			t.Errorf("%s has %q", path, got)
		}
	}
	for _, pod := range []string{"absent", "wrong"} {
		s.tells(pod, "FailedMount", dir)
		s.has(pod, "Pending ContainerCreating", ".status.phase", ".status.containerStatuses[0].state.waiting.reason")
	}
	if err := os.Mkdir(filepath.Join(dir, "absent"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.waits("pod/absent", "--for=condition=Ready")
}

// testProjectedVolumes shows volumes that are made from objects, and follow them.
func testProjectedVolumes(t *testing.T, s *space) {
	s.ready(`
{apiVersion: v1, kind: ConfigMap, metadata: {name: conf}, data: {colour: blue, size: "7"}, binaryData: {raw: AAEC}}
---
{apiVersion: v1, kind: Secret, metadata: {name: hidden}, stringData: {word: xyzzy}}
---
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: p, stage: one}, annotations: {note: a note}}
spec:
  terminationGracePeriodSeconds: 0
  volumes:
  - {name: conf, configMap: {name: conf, defaultMode: 0640}}
  - {name: items, configMap: {name: conf, items: [{key: colour, path: paints/first, mode: 0400}]}}
  - {name: later, configMap: {name: later, optional: true}}
  - {name: hidden, secret: {secretName: hidden, defaultMode: 0400}}
  - name: info
    downwardAPI:
      items:
      - {path: labels, fieldRef: {fieldPath: metadata.labels}}
      - {path: annotations, fieldRef: {fieldPath: metadata.annotations}}
      - {path: cpu, resourceFieldRef: {containerName: a, resource: limits.cpu, divisor: 1m}}
  - name: all
    projected:
      sources:
      - {configMap: {name: conf, items: [{key: size, path: size}]}}
      - {secret: {name: hidden, items: [{key: word, path: words/word}]}}
      - {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}
  containers:
  - name: a
    image: reprise.run/demo:1
    command: [sleep, "1000"]
    resources: {limits: {cpu: 200m}}
    volumeMounts:
    - {name: conf, mountPath: /conf}
    - {name: items, mountPath: /items}
    - {name: later, mountPath: /later}
    - {name: hidden, mountPath: /hidden}
    - {name: info, mountPath: /info}
    - {name: all, mountPath: /all}
    - {name: conf, mountPath: /fixed, subPath: colour}
`)
	s.says("p", "cd /conf; cat colour; wc -c < raw; stat -Lc %a colour; ls", "blue3\n640\ncolour\nraw\nsize")
	s.says("p", "cd /items; cat paints/first; stat -Lc %a paints/first; ls", "blue400\npaints")
	s.says("p", "cat /hidden/word; stat -Lc %a /hidden/word; grep -c ' /hidden tmpfs ' /proc/mounts", "xyzzy400\n1")
	s.says("p", "ls /later; cat /all/size /all/words/word /all/name /info/cpu", "7xyzzyp200")
	s.mentions("the file of annotations", s.sh("p", "cat /info/annotations"), `note="a note"`)
	s.says("p", "cat /info/labels", "app=\"p\"\nstage=\"one\"")
	s.says("p", "touch /conf/x 2>&1 | grep -o Read-only", "Read-only")

	s.kubectl("patch", "configmap", "conf", "-p", `{"data":{"colour":"green"}}`)
	s.kubectl("label", "pod", "p", "--overwrite", "stage=two")
	s.kubectl("patch", "secret", "hidden", "-p", `{"stringData":{"word":"plugh"}}`)
	s.kubectl("create", "configmap", "later", "--from-literal=now=here")
	s.eventuallySays("p", "cat /conf/colour /items/paints/first", "greengreen")
	s.eventuallySays("p", "cat /info/labels", "app=\"p\"\nstage=\"two\"")
	s.eventuallySays("p", "cat /hidden/word /all/words/word", "plughplugh")
	s.eventuallySays("p", "cat /later/now", "here")
	s.says("p", "cat /fixed", "blue")
}

// testToken shows that a pod's token proves who it is, for as long as it is.
func testToken(t *testing.T, s *space) {
	s.ready(`
{apiVersion: v1, kind: ServiceAccount, metadata: {name: worker}}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  serviceAccountName: worker
  terminationGracePeriodSeconds: 0
  volumes: [{name: own, projected: {sources: [{serviceAccountToken: {path: token, audience: vault, expirationSeconds: 600}}]}}]
  containers:
  - {name: a, image: "reprise.run/demo:1", command: [sleep, "1000"], volumeMounts: [{name: own, mountPath: /own}]}
---
apiVersion: v1
kind: Pod
metadata: {name: without}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  containers: [{name: a, image: "reprise.run/demo:1", command: [sleep, "1000"]}]
`)
	const account = "/var/run/secrets/kubernetes.io/serviceaccount/"
	token := s.sh("p", "cat "+account+"token")
	s.says("p", "cat "+account+"namespace", s.name)
	s.says("without", "ls "+account+" 2>/dev/null || echo none", "none")
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, []byte(s.sh("p", "cat "+account+"ca.crt")), 0o600); err != nil {
		t.Fatal(err)
	}
	server := s.kubectl("config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")
	as := func(token string, args ...string) (string, error) {
		return s.cluster.try("kubectl", append([]string{"--kubeconfig=/dev/null", "--server=" + server, "--certificate-authority=" + ca, "--token=" + token}, args...)...)
	}
	who, err := as(token, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
	if want := "system:serviceaccount:" + s.name + ":worker"; err != nil || who != want {
		t.Errorf("the token stands for %q, want %q: %v", who, want, err)
	}
	if out, err := as(token, "-n", s.name, "get", "pods"); err == nil || !strings.Contains(out, "Forbidden") {
		t.Errorf("an account without any right may list pods: %v\n%s", err, out)
	}
	review := func(token, audience string) string {
		audiences := ""
		if audience != "" {
			audiences = "audiences: [" + audience + "], "
		}
		out, err := s.feed(strings.NewReader("{apiVersion: authentication.k8s.io/v1, kind: TokenReview, spec: {"+audiences+"token: "+token+"}}"),
			"kubectl", "create", "-f", "-", "-o", `jsonpath={.status.authenticated} {.status.user.extra.authentication\.kubernetes\.io/pod-name[0]}`)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	own := s.sh("p", "cat /own/token")
	for _, c := range []struct{ what, got, want string }{
		{"the token", review(token, ""), "true p"},
		{"the token for a vault, to the vault", review(own, "vault"), "true p"},
		{"the token for a vault, to us", review(own, ""), ""},
	} {
		if c.got != c.want {
			t.Errorf("the review of %s is %q, want %q", c.what, c.got, c.want)
		}
	}
	s.kubectl("delete", "pod", "p")
	s.eventually("the token dies with its pod", func() error {
		if got := review(token, ""); got != "" {
			return fmt.Errorf("its review is %q", got)
		}
		return nil
	})
}
