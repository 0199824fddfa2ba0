//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/sirupsen/logrus"
	"golang.org/x/crypto/bcrypt"

	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"

	"github.com/reprise-run/reprise/agents/node/images"
)

// testMissing shows what is told of images that cannot be had.
func testMissing(t *testing.T, s *space) {
	pod := func(name, container string) string {
		return "\n---\n{apiVersion: v1, kind: Pod, metadata: {name: " + name + "}, spec: {terminationGracePeriodSeconds: 0, containers: [" + container + "]}}"
	}
	s.create(pod("never", `{name: a, image: "reprise.run/none:1", imagePullPolicy: Never}`) +
		pod("unreachable", `{name: a, image: "127.0.0.1:1/none:1"}`) +
		pod("name", `{name: a, image: "Not A Name"}`) +
		pod("config", `{name: a, image: "reprise.run/demo:1", envFrom: [{configMapRef: {name: later}}]}`) +
		pod("program", `{name: a, image: "reprise.run/demo:1", command: [/no/such/program]}`) +
		pod("root", `{name: a, image: "reprise.run/demo:1", securityContext: {runAsNonRoot: true}}`))
	for _, c := range []struct{ pod, reason, says string }{
		{"never", "ErrImageNeverPull", "reprise.run/none:1"},
		{"unreachable", "ImagePullBackOff", "127.0.0.1:1/none:1"},
		{"name", "InvalidImageName", "Not A Name"},
		{"config", "CreateContainerConfigError", `configmap "missing/later" not found`},
		{"root", "CreateContainerConfigError", "runAsNonRoot"},
	} {
		s.tellsSoon(c.pod, waiting, c.reason, c.says)
		s.has(c.pod, "Pending", ".status.phase")
	}
	s.tellsSoon("program", waiting, "CrashLoopBackOff", "back-off", "/no/such/program")
	s.was("program", "back-off 10s")
	s.mentions("the end of a container without a program", s.field("program", ".status.containerStatuses[0].lastState.terminated"), "128", "/no/such/program")
	s.eventually("kubectl describe says why", func() error {
		out, err := s.try("describe", "pod", "unreachable")
		if err == nil && !containsAll(out, "connection refused", "ImagePullBackOff") {
			err = errors.New(out)
		}
		return err
	})
	// What was missing may come.
	s.kubectl("create", "configmap", "later", "--from-literal=A=b")
	s.waits("pod/config", "--for=condition=Ready")
	s.says("config", "echo $A", "b")
}

// registry is a registry of the test's own, which wants a password.
func registry(t *testing.T) string {
	t.Helper()
	secret, err := bcrypt.GenerateFromPassword([]byte("open sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, fmt.Appendf(nil, "ali:%s\n", secret), 0o600); err != nil {
		t.Fatal(err)
	}
	config := &configuration.Configuration{
		Storage: configuration.Storage{"inmemory": nil},
		Auth:    configuration.Auth{"htpasswd": {"realm": "the test", "path": users}},
	}
	config.Log.AccessLog.Disabled = true
	config.HTTP.Secret = "of the test"
	logrus.SetOutput(io.Discard) // Only the registry writes there.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handlers.NewApp(t.Context(), config)}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return listener.Addr().String()
}

// testRegistry pulls from a registry that wants a password.
func testRegistry(t *testing.T, s *space) {
	at := registry(t)
	program := filepath.Join(t.TempDir(), "busybox")
	busybox, err := os.ReadFile("/bin/busybox")
	if err == nil {
		err = os.WriteFile(program, busybox, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	image, err := images.Build(images.Spec{Files: []images.File{{From: program, To: "/bin/sh"}}, Entrypoint: []string{"/bin/sh", "-c", "echo pulled; exec sleep 1000"}})
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(at + "/cave/gold:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, image, remote.WithAuth(&authn.Basic{Username: "ali", Password: "open sesame"})); err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	s.kubectl("create", "secret", "docker-registry", "right", "--docker-server="+at, "--docker-username=ali", "--docker-password=open sesame")
	s.kubectl("create", "secret", "docker-registry", "wrong", "--docker-server="+at, "--docker-username=ali", "--docker-password=open barley")
	pod := func(name, secrets, image string) string {
		return "\n---\n{apiVersion: v1, kind: Pod, metadata: {name: " + name + "}, spec: {terminationGracePeriodSeconds: 0, imagePullSecrets: [" + secrets +
			`], containers: [{name: a, imagePullPolicy: Always, image: "` + at + "/cave/" + image + `"}]}}`
	}
	s.create(pod("none", "", "gold:1") + pod("wrong", "{name: wrong}", "gold:1") + pod("absent", "{name: right}", "gold:2"))
	for _, p := range []struct{ pod, says string }{{"none", "authorization"}, {"wrong", "401 Unauthorized"}, {"absent", "not found"}} {
		s.tellsSoon(p.pod, waiting, "ImagePullBackOff", at+"/cave/gold", p.says)
	}
	s.create(pod("right", "{name: wrong}, {name: right}", "gold:1") + pod("digest", "{name: right}", "gold@"+digest.String()))
	s.waits("pod/right", "pod/digest", "--for=condition=Ready")
	s.eventuallyPrints("pulled", "-n", s.name, "logs", "right")
	s.mentions("the image's id", s.field("right", ".status.containerStatuses[0].imageID"), digest.String())
	// The node has the image now; that is no right to it.
	s.tellsSoon("none", waiting, "ImagePullBackOff")
}
