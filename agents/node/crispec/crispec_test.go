package crispec_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"sigs.k8s.io/yaml"

	"github.com/reprise-run/reprise/agents/node/crispec"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
)

type objects map[events.Ref]*projections.Entry

func (o objects) Get(ref events.Ref) *projections.Entry { return o[ref] }

// TestTranscripts shows what the runtime is asked for.
//
//	object RESOURCE         an object that pods speak of, as YAML
//	sandbox                 the sandbox of a pod, as YAML
//	container NAME [user=U] a container of the pod, of an image with that user
//	hosts                   its hosts file
func TestTranscripts(t *testing.T) {
	node := crispec.Node{Name: "n1", HostIPs: []string{"10.0.0.1"}, Memory: 8 << 30, Logs: "/logs",
		DNS: []string{"10.96.0.10"}, Domain: "cluster.local", Resolv: "nameserver 9.9.9.9\nsearch example.com\noptions edns0\n",
		Allocatable: v1.ResourceList{}}
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		objs := objects{}
		pod := &v1.Pod{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "object":
				raw, err := yaml.YAMLToJSON([]byte(d.Input))
				if err != nil {
					d.Fatalf(t, "%v", err)
				}
				var o v1.ConfigMap
				_ = json.Unmarshal(raw, &o)
				ref := events.Ref{Resource: d.CmdArgs[0].Key, Namespace: "shop", Name: o.Name}
				objs[ref] = &projections.Entry{Ref: ref, Raw: raw}
				return ""
			case "sandbox":
				pod = &v1.Pod{}
				if err := yaml.UnmarshalStrict([]byte(d.Input), pod); err != nil {
					d.Fatalf(t, "%v", err)
				}
				pod.Namespace, pod.UID = "shop", "u1"
				return show(t, d, node.Sandbox(pod, 1, "/reprise/podu1"))
			case "hosts":
				return node.Hosts(pod, []string{"10.1.0.2"}, "127.0.0.1 localhost\n")
			}
			a := crispec.Attempt{Number: 2, Backoff: 10 * time.Second, ImageID: "sha256:1", Seccomp: "/seccomp", IPs: []string{"10.1.0.2"},
				Services: map[string]string{"KUBERNETES_SERVICE_HOST": "10.96.0.1", "COLOUR": "hidden by the pod's own"},
				Mounts: func(m *v1.VolumeMount, expand func(string) string) (*runtimeapi.Mount, error) {
					return &runtimeapi.Mount{HostPath: "/volumes/" + m.Name + "/" + expand(m.SubPathExpr), ContainerPath: m.MountPath}, nil
				}}
			a.Hide = func(text string) string { return "hidden(" + text + ")" }
			if d.HasArg("user") {
				d.ScanArgs(t, "user", &a.ImageUser.Name)
			}
			for i := range pod.Spec.Containers {
				if c := &pod.Spec.Containers[i]; c.Name == d.CmdArgs[0].Key {
					config, err := node.Container(pod, c, objs, a)
					if err != nil {
						return "error: " + err.Error() + "\n"
					}
					return environment(config) + show(t, d, config)
				}
			}
			return "no such container\n"
		})
	})
}

// environment prints what reads badly as bytes, and takes it out with what is
// always the same.
func environment(config *runtimeapi.ContainerConfig) string {
	var b strings.Builder
	for _, e := range config.Envs {
		fmt.Fprintf(&b, "%s=%s\n", e.Key, e.Value)
	}
	config.Envs = nil
	config.Linux.SecurityContext.MaskedPaths, config.Linux.SecurityContext.ReadonlyPaths = nil, nil
	return b.String()
}

func show(t *testing.T, d *datadriven.TestData, m proto.Message) string {
	raw, err := protojson.Marshal(m)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	out, err := yaml.JSONToYAML(raw)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	return strings.TrimSpace(string(out)) + "\n"
}
