//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestPods keeps every promise that a pod makes: what its containers see, what
// they may use, how they start, are watched over and end, and how people reach
// into them. All of it runs in one cluster, each part in a namespace of its own.
func TestPods(t *testing.T) {
	c := newCluster(t)
	var settled []*bystander
	t.Run("beside each other", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *space){
			"environment":  testEnvironment,
			"identity":     testIdentity,
			"host":         testHost,
			"names":        testNames,
			"resources":    testResources,
			"init":         testInit,
			"sidecars":     testSidecars,
			"restarts":     testRestarts,
			"image-change": testImageChange,
			"liveness":     testLiveness,
			"readiness":    testReadiness,
			"startup":      testStartup,
			"grpc":         testGRPCProbe,
			"scratch":      testScratchVolumes,
			"hostpath":     testHostPath,
			"projections":  testProjectedVolumes,
			"token":        testToken,
			"hooks":        testHooks,
			"termination":  testTermination,
			"force-delete": testForceDelete,
			"missing":      testMissing,
			"registry":     testRegistry,
			"logs":         testLogOptions,
			"terminal":     testTerminal,
			"slow-reader":  testSlowReader,
			"attach":       testAttach,
			"copy":         testCopyDirectory,
			"forward":      testForward,
			"debug":        testDebug,
		} {
			s := c.space(t, name)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s.t, s.cluster.t = t, t
				test(t, s)
			})
		}
		settled = stand(t, c)
	})
	// These stop parts of the cluster, so they run alone.
	t.Run("containerd killed", func(t *testing.T) { testKilledRuntime(t, c, settled) })
	t.Run("server restarted", func(t *testing.T) { testRestartedServer(t, c, settled) })
}

// space is a namespace of the cluster, and the test that it belongs to.
type space struct {
	*cluster
	t    *testing.T
	name string
}

// space makes a namespace. Pods can be made there once its account is.
func (c *cluster) space(t *testing.T, name string) *space {
	t.Helper()
	of := *c
	of.t = t
	of.kubectl("create", "namespace", name)
	return &space{cluster: &of, t: t, name: name}
}

func (s *space) try(args ...string) (string, error) {
	return s.cluster.try("kubectl", append([]string{"-n", s.name}, args...)...)
}

func (s *space) kubectl(args ...string) string {
	s.t.Helper()
	return s.cluster.kubectl(append([]string{"-n", s.name}, args...)...)
}

// create makes the objects of a manifest given as text, as soon as the
// namespace's account is there.
func (s *space) create(manifest string) {
	s.t.Helper()
	s.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=1m")
	out, err := s.feed(strings.NewReader(manifest), "kubectl", "-n", s.name, "create", "-f", "-")
	if err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
}

// ready makes the objects of a manifest, and waits until all its pods are ready.
func (s *space) ready(manifest string) {
	s.t.Helper()
	s.create(manifest)
	s.waits("pods", "--all", "--for=condition=Ready")
}

func (s *space) waits(args ...string) {
	s.t.Helper()
	if out, err := s.try(append([]string{"wait", "--timeout=" + patience.String()}, args...)...); err != nil {
		pods, _ := s.try("get", "pods", "-o", `jsonpath={range .items[*]}{.metadata.name} {.status}{"\n\n"}{end}`)
		s.t.Fatalf("%v\n%s\nthe pods are\n%s", err, out, pods)
	}
}

// until waits until a field of a pod has a value.
func (s *space) until(pod, field, value string) {
	s.t.Helper()
	s.waits("pod/"+pod, fmt.Sprintf("--for=jsonpath={%s}=%s", field, value))
}

// tellsSoon waits until fields of a pod mention each of some parts, all at one moment:
// a container that fails again and again is not always in its back-off.
func (s *space) tellsSoon(pod string, fields []string, parts ...string) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("%q of pod %s mention %q", fields, pod, parts), func() error {
		out, err := s.try("get", "pod", pod, "-o", "jsonpath={"+strings.Join(fields, "} {")+"}")
		if err == nil && !containsAll(out, parts...) {
			err = fmt.Errorf("they are %s", out)
		}
		return err
	})
}

// waiting is why a pod's first container does not run.
var waiting = []string{".status.containerStatuses[0].state.waiting.reason", ".status.containerStatuses[0].state.waiting.message"}

// field is one field of a pod, or several with spaces between them.
func (s *space) field(pod string, fields ...string) string {
	s.t.Helper()
	return s.kubectl("get", "pod", pod, "-o", "jsonpath={"+strings.Join(fields, "} {")+"}")
}

// has checks fields of a pod.
func (s *space) has(pod, want string, fields ...string) {
	s.t.Helper()
	if got := s.field(pod, fields...); got != want {
		s.t.Errorf("%s of pod %s is %q, want %q", strings.Join(fields, " "), pod, got, want)
	}
}

// sh runs a script in a pod's first container.
func (s *space) sh(pod, script string) string {
	s.t.Helper()
	return s.kubectl("exec", pod, "-q", "--", "sh", "-c", script)
}

// was checks what a pod's history says of it. Who asks for the present may come too
// late on a machine that is busy.
func (s *space) was(pod string, parts ...string) {
	s.t.Helper()
	out, err := s.cluster.try("reprise", "history", "pods/"+s.name+"/"+pod, "-o", "wide")
	if err != nil {
		s.t.Errorf("%v\n%s", err, out)
	}
	s.mentions("the history of "+pod, out, parts...)
}

// says checks what a script prints in a pod.
func (s *space) says(pod, script, want string) {
	s.t.Helper()
	if got := strings.TrimSpace(s.sh(pod, script)); got != want {
		s.t.Errorf("in pod %s\n%s\nprints %q, want %q", pod, script, got, want)
	}
}

// eventuallySays waits until a script prints just this in a pod.
func (s *space) eventuallySays(pod, script, want string) {
	s.t.Helper()
	s.eventuallyPrints(want, "-n", s.name, "exec", pod, "-q", "--", "sh", "-c", script)
}

// tells waits until the events about a pod mention each of some parts.
func (s *space) tells(pod string, parts ...string) {
	s.t.Helper()
	s.eventually("an event of pod "+pod+" mentions "+strings.Join(parts, ", "), func() error {
		out, err := s.try("get", "events", "--field-selector", "involvedObject.name="+pod)
		if err == nil && !containsAll(out, parts...) {
			err = fmt.Errorf("they are\n%s", out)
		}
		return err
	})
}

// mentions checks that a text has each of some parts.
func (s *space) mentions(what, text string, parts ...string) {
	s.t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			s.t.Errorf("%s does not mention %q:\n%s", what, part, text)
		}
	}
}

// lines checks that a text has each of some lines.
func (s *space) lines(what, text string, want ...string) {
	s.t.Helper()
	have := strings.Split(text, "\n")
	for _, line := range want {
		if !slices.Contains(have, line) {
			s.t.Errorf("%s has no line %q:\n%s", what, line, text)
		}
	}
}
