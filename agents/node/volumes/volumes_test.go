package volumes_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/reprise-run/reprise/agents/node/volumes"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

// objects are what volumes are made from.
type objects map[events.Ref]*projections.Entry

func (o objects) Get(ref events.Ref) *projections.Entry { return o[ref] }

func (o objects) put(t *testing.T, resource, name string, object any) {
	t.Helper()
	raw, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	ref := events.Ref{Resource: resource, Namespace: "shop", Name: name}
	if resource == "persistentvolumes" {
		ref.Namespace = ""
	}
	o[ref] = &projections.Entry{Ref: ref, Raw: raw}
}

// world is a store with a clock and an API of its own.
type world struct {
	t      *testing.T
	store  *volumes.Store
	objs   objects
	now    time.Time
	asked  int
	refuse error
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, objs: objects{}, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.store = volumes.NewStore(t.TempDir(), w.token, nil, func() time.Time { return w.now })
	t.Cleanup(func() {
		if err := w.store.Remove("u1"); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) token(_ context.Context, namespace, account string, req *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	if w.refuse != nil {
		return nil, w.refuse
	}
	w.asked++
	out := req.DeepCopy()
	out.Status.Token = fmt.Sprintf("%s/%s for %v, %d", namespace, account, req.Spec.Audiences, w.asked)
	out.Status.ExpirationTimestamp = metav1.NewTime(w.now.Add(time.Duration(*req.Spec.ExpirationSeconds) * time.Second))
	return out, nil
}

// pod returns a pod with the volumes given as YAML.
func (w *world) pod(spec string) *v1.Pod {
	w.t.Helper()
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u1", Labels: map[string]string{"app": "web"}}}
	if err := yaml.UnmarshalStrict([]byte(spec), &pod.Spec); err != nil {
		w.t.Fatal(err)
	}
	pod.Spec.ServiceAccountName = "robot"
	return pod
}

func (w *world) prepare(pod *v1.Pod) time.Time {
	w.t.Helper()
	again, err := w.store.Prepare(w.t.Context(), pod, w.objs)
	if err != nil {
		w.t.Fatal(err)
	}
	return again
}

// read returns the content of a file of the pod's first volume.
func (w *world) read(pod *v1.Pod, name string) string {
	w.t.Helper()
	dir, err := w.store.Path(pod, pod.Spec.Volumes[0].Name, w.objs)
	if err != nil {
		w.t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return "(none)"
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return string(data)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting memory for secrets needs root: run `sudo go test ./agents/node/volumes`")
	}
}

func TestConfigMap(t *testing.T) {
	w := newWorld(t)
	w.objs.put(t, "configmaps", "conf", v1.ConfigMap{Data: map[string]string{"a": "1", "b": "2"}, BinaryData: map[string][]byte{"c": {3}}})
	pod := w.pod("volumes: [{name: v, configMap: {name: conf, defaultMode: 0400}}]")
	w.prepare(pod)
	if got := w.read(pod, "a") + w.read(pod, "b") + w.read(pod, "c"); got != "12\x03" {
		t.Errorf("got %q", got)
	}
	dir, _ := w.store.Path(pod, "v", w.objs)
	if info, err := os.Stat(filepath.Join(dir, "a")); err != nil || info.Mode().Perm() != 0o400 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}

	// A change replaces all files at once; one that is gone is gone.
	w.objs.put(t, "configmaps", "conf", v1.ConfigMap{Data: map[string]string{"a": "one"}})
	w.prepare(pod)
	if got := w.read(pod, "a") + w.read(pod, "b"); got != "one(none)" {
		t.Errorf("after the change: %q", got)
	}
	if target, err := os.Readlink(filepath.Join(dir, "a")); err != nil || target != "..data/a" {
		t.Errorf("a leads to %q, %v", target, err)
	}
}

func TestWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	w.objs.put(t, "configmaps", "conf", v1.ConfigMap{Data: map[string]string{"a": "1"}})
	for spec, want := range map[string]string{
		"configMap: {name: none}":                                             `configmap "shop/none" not found`,
		"secret: {secretName: none}":                                          `secret "shop/none" not found`,
		"configMap: {name: conf, items: [{key: z, path: z}]}":                 `configmap "shop/conf" has no key "z"`,
		"hostPath: {path: /no/such/place, type: Directory}":                   "the node has no /no/such/place",
		"hostPath: {path: /etc, type: File}":                                  "/etc is not a File",
		"persistentVolumeClaim: {claimName: none}":                            `persistentvolumeclaim "shop/none" not found`,
		"nfs: {server: a, path: /b}":                                          "no such kind of volume",
		"emptyDir: {medium: Gold}":                                            `no medium "Gold"`,
		"configMap: {name: none, optional: true}":                             "",
		"configMap: {name: conf, items: [{key: z, path: z}], optional: true}": "",
		"secret: {secretName: none, optional: true}":                          "",
	} {
		if strings.HasPrefix(spec, "secret: {secretName: none, opt") && os.Geteuid() != 0 {
			continue
		}
		_, err := w.store.Prepare(t.Context(), w.pod("volumes: [{name: v, "+spec+"}]"), w.objs)
		if got := fmt.Sprint(err); want == "" && err != nil || want != "" && !strings.Contains(got, want) {
			t.Errorf("%s says %q, want %q", spec, got, want)
		}
		if err := w.store.Remove("u1"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDownward(t *testing.T) {
	w := newWorld(t)
	pod := w.pod(`
volumes: [{name: v, downwardAPI: {items: [
  {path: name, fieldRef: {fieldPath: metadata.name}}, {path: labels, fieldRef: {fieldPath: metadata.labels}},
  {path: cpu, resourceFieldRef: {containerName: c, resource: limits.cpu, divisor: 1m}}]}}]
containers: [{name: c, resources: {limits: {cpu: 250m}}}]`)
	w.prepare(pod)
	if got := w.read(pod, "name") + " " + w.read(pod, "labels") + " " + w.read(pod, "cpu"); got != `web app="web" 250` {
		t.Errorf("got %q", got)
	}
}

func TestSecretsStayInMemory(t *testing.T) {
	needRoot(t)
	w := newWorld(t)
	w.objs.put(t, "secrets", "s", v1.Secret{Data: map[string][]byte{"word": []byte("xyzzy")}})
	pod := w.pod("{volumes: [{name: v, secret: {secretName: s}}], securityContext: {fsGroup: 77}}")
	w.prepare(pod)
	if got := w.read(pod, "word"); got != "xyzzy" {
		t.Errorf("got %q", got)
	}
	dir, _ := w.store.Path(pod, "v", w.objs)
	if is, err := mountinfo.Mounted(dir); err != nil || !is {
		t.Errorf("it is on the disk: %v", err)
	}
	w.prepare(pod) // Again is no harm.
	if err := w.store.Remove("u1"); err != nil {
		t.Fatal(err)
	}
	if left, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir)); err != nil || len(left) > 0 || w.store.Has("u1") {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestTokens(t *testing.T) {
	needRoot(t)
	w := newWorld(t)
	pod := w.pod("volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t, audience: vault, expirationSeconds: 1000}}]}}]")
	again := w.prepare(pod)
	if got := w.read(pod, "t"); got != "shop/robot for [vault], 1" || !again.Equal(w.now.Add(800*time.Second)) {
		t.Errorf("got %q, again at %s", got, again)
	}
	w.now = w.now.Add(799 * time.Second)
	w.prepare(pod)
	if w.asked != 1 {
		t.Error("a token was asked for too early")
	}
	// While the API does not answer the old one stays, also for a restarted agent.
	w.now = w.now.Add(time.Second)
	w.refuse = errors.New("no answer")
	if again := w.prepare(pod); w.read(pod, "t") != "shop/robot for [vault], 1" || !again.Equal(w.now.Add(10*time.Second)) {
		t.Errorf("without the API: %q, again at %s", w.read(pod, "t"), again)
	}
	w.refuse = nil
	w.prepare(pod)
	if got := w.read(pod, "t"); got != "shop/robot for [vault], 2" {
		t.Errorf("got %q", got)
	}
}

func TestEmptyDir(t *testing.T) {
	needRoot(t)
	w := newWorld(t)
	for _, spec := range []string{"emptyDir: {}", "emptyDir: {medium: Memory, sizeLimit: 64Ki}"} {
		pod := w.pod("{volumes: [{name: v, " + spec + "}], securityContext: {fsGroup: 77}}")
		w.prepare(pod)
		dir, _ := w.store.Path(pod, "v", w.objs)
		if err := os.WriteFile(filepath.Join(dir, "mine"), []byte("kept"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.prepare(pod)
		if got := w.read(pod, "mine"); got != "kept" {
			t.Errorf("%s: a second look left %q", spec, got)
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o777 || info.Mode()&fs.ModeSetgid == 0 {
			t.Errorf("%s: mode is %v, %v", spec, info.Mode(), err)
		}
		err := os.WriteFile(filepath.Join(dir, "big"), make([]byte, 100<<10), 0o600)
		if limited := strings.Contains(spec, "Limit"); limited != (err != nil) {
			t.Errorf("%s: writing much says %v", spec, err)
		}
		if err := w.store.Remove("u1"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHostPathIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	host := filepath.Join(t.TempDir(), "new")
	pod := w.pod("volumes: [{name: v, hostPath: {path: " + host + ", type: DirectoryOrCreate}}]")
	w.prepare(pod)
	if err := os.WriteFile(filepath.Join(host, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.store.Remove("u1"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(host, "x")); err != nil {
		t.Error(err)
	}
}

func TestClaim(t *testing.T) {
	w := newWorld(t)
	host := t.TempDir()
	w.objs.put(t, "persistentvolumeclaims", "data", v1.PersistentVolumeClaim{Spec: v1.PersistentVolumeClaimSpec{VolumeName: "pv1"}})
	w.objs.put(t, "persistentvolumes", "pv1", v1.PersistentVolume{Spec: v1.PersistentVolumeSpec{
		PersistentVolumeSource: v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: host}}}})
	pod := w.pod("volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]")
	w.prepare(pod)
	if got, err := w.store.Path(pod, "v", w.objs); err != nil || got != host {
		t.Errorf("the claim is at %q, %v", got, err)
	}
}

func TestSubPathStaysInside(t *testing.T) {
	w := newWorld(t)
	pod := w.pod("volumes: [{name: v, emptyDir: {}}]")
	w.prepare(pod)
	dir, _ := w.store.Path(pod, "v", w.objs)
	if err := os.Symlink("/", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	same := func(s string) string { return s }
	m, err := w.store.Mount(pod, &v1.VolumeMount{Name: "v", MountPath: "/x", SubPath: "out/etc"}, w.objs, same)
	if err != nil || m.HostPath != filepath.Join(dir, "etc") {
		t.Errorf("a link that leads out gives %v, %v", m, err)
	}
	if _, err := w.store.Mount(pod, &v1.VolumeMount{Name: "v", MountPath: "/x", SubPath: "../up"}, w.objs, same); err == nil {
		t.Error("a path that leads out is taken")
	}
	m, err = w.store.Mount(pod, &v1.VolumeMount{Name: "v", MountPath: "/x", SubPathExpr: "$(NAME)/log"}, w.objs,
		func(s string) string { return strings.ReplaceAll(s, "$(NAME)", "web") })
	if err != nil || m.HostPath != filepath.Join(dir, "web/log") {
		t.Errorf("got %v, %v", m, err)
	}
}
