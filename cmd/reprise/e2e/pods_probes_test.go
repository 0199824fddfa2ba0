//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// testLiveness has a container report that it is ill, and be started anew. Nobody asks a
// container whether it is well before it once was: what a slow machine starts late is not ill.
func testLiveness(t *testing.T, s *space) {
	s.ready(`
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 60
  containers:
  - name: web
    image: reprise.run/demo:1
    ports: [{name: http, containerPort: 8080}]
    startupProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1, failureThreshold: 120}
    livenessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 2}
    readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: command}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: a
    image: reprise.run/demo:1
    command: [sh, -c, "touch /tmp/well; exec sleep 1000"]
    startupProbe: {exec: {command: [cat, /tmp/well]}, periodSeconds: 1, failureThreshold: 120}
    livenessProbe: {exec: {command: [cat, /tmp/well]}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: port}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: a
    image: reprise.run/demo:1
    command: [sh, -c, "/demo & echo $! > /tmp/pid; exec sleep 1000"]
    startupProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 120}
    livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 2}
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
`)
	s.sh("web", "wget -q -O - --post-data= 'http://127.0.0.1:8080/readyz?ready=false'")
	s.sh("command", "rm /tmp/well")
	s.sh("port", "kill $(cat /tmp/pid)")
	for _, pod := range []string{"web", "command", "port"} {
		s.until(pod, ".status.containerStatuses[0].restartCount", "1")
		s.waits("pod/"+pod, "--for=condition=Ready")
	}
	// demo ends by itself when it is asked to, sleep as the first process does not.
	s.has("web", "0", ".status.containerStatuses[0].lastState.terminated.exitCode")
	s.has("command", "137", ".status.containerStatuses[0].lastState.terminated.exitCode")
	s.mentions("reprise history", s.must("reprise", "history", "pods/"+s.name+"/web"), "container.exited", "container web failed its liveness probe: HTTP probe failed with statuscode: 503")
	s.tells("web", "Unhealthy", "liveness probe: HTTP probe failed with statuscode: 503")
}

// testReadiness has pods become ready and unready without being restarted.
func testReadiness(t *testing.T, s *space) {
	s.create(`
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: web, image: "reprise.run/demo:1", readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1, failureThreshold: 1}}
---
apiVersion: v1
kind: Pod
metadata: {name: command}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: a, image: "reprise.run/demo:1", command: [sleep, "1000"], readinessProbe: {exec: {command: [test, -f, /tmp/ready]}, periodSeconds: 1}}
---
apiVersion: v1
kind: Pod
metadata: {name: port}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: a
    image: reprise.run/demo:1
    command: [sh, -c, "while ! [ -f /tmp/open ]; do sleep 0.1; done; exec /demo"]
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: gated}
spec:
  terminationGracePeriodSeconds: 0
  readinessGates: [{conditionType: example.org/approved}]
  containers: [{name: a, image: "reprise.run/demo:1", command: [sleep, "1000"]}]
`)
	s.waits("pod/web", "--for=condition=Ready")
	s.sh("web", "wget -q -O - --post-data= 'http://127.0.0.1:8080/readyz?ready=false'")
	s.waits("pod/web", "--for=condition=Ready=false")
	s.tells("web", "Unhealthy", "readiness probe: HTTP probe failed with statuscode: 503")
	s.has("web", "false true", ".status.containerStatuses[0].ready", ".status.containerStatuses[0].started")
	s.sh("web", "wget -q -O - --post-data= 'http://127.0.0.1:8080/readyz?ready=true'")
	s.waits("pod/web", "--for=condition=Ready")

	s.until("command", ".status.phase", "Running")
	s.waits("pod/command", "--for=condition=Ready=false")
	s.sh("command", "touch /tmp/ready")
	s.waits("pod/command", "--for=condition=Ready")

	s.until("port", ".status.phase", "Running")
	s.has("port", "false", ".status.containerStatuses[0].ready")
	s.sh("port", "touch /tmp/open")
	s.waits("pod/port", "--for=condition=Ready")

	s.waits("pod/gated", "--for=condition=ContainersReady")
	s.has("gated", "False", `.status.conditions[?(@.type=="Ready")].status`)
	s.kubectl("patch", "pod", "gated", "--subresource=status", "-p", `{"status":{"conditions":[{"type":"example.org/approved","status":"True"}]}}`)
	s.waits("pod/gated", "--for=condition=Ready")
	for _, pod := range []string{"web", "command", "port", "gated"} {
		s.has(pod, "0", ".status.containerStatuses[0].restartCount")
	}
}

// testStartup shows that a startup probe keeps the other probes back for as long as the
// container starts, which here is until it is told to have, and that a container which
// does not start in time is started anew.
func testStartup(t *testing.T, s *space) {
	s.create(`
apiVersion: v1
kind: Pod
metadata: {name: slow}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: a
    image: reprise.run/demo:1
    command: [sleep, "1000"]
    startupProbe: {exec: {command: [test, -f, /tmp/up]}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 600}
    livenessProbe: {exec: {command: [test, -f, /tmp/up]}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: stuck}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: a, image: "reprise.run/demo:1", command: [sleep, "1000"], startupProbe: {exec: {command: ["false"]}, periodSeconds: 1, failureThreshold: 2}}
`)
	s.until("slow", ".status.phase", "Running")
	s.has("slow", "false false", ".status.containerStatuses[0].started", ".status.containerStatuses[0].ready")
	s.sh("slow", "sleep 3; touch /tmp/up") // The liveness probe would have failed three times.
	s.waits("pod/slow", "--for=condition=Ready")
	s.has("slow", "true 0", ".status.containerStatuses[0].started", ".status.containerStatuses[0].restartCount")
	s.until("stuck", ".status.containerStatuses[0].restartCount", "1")
	s.has("stuck", "137", ".status.containerStatuses[0].lastState.terminated.exitCode")
}

// testGRPCProbe probes a server of the test's own: a pod on the host's network
// has the host's address.
func testGRPCProbe(t *testing.T, s *space) {
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	server, healths := grpc.NewServer(), health.NewServer()
	healthpb.RegisterHealthServer(server, healths)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	healths.SetServingStatus("shop", healthpb.HealthCheckResponse_SERVING)
	s.ready(fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: rpc}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  containers:
  - name: a
    image: reprise.run/demo:1
    command: [sleep, "1000"]
    readinessProbe: {grpc: {port: %[1]d, service: shop}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 1}
    livenessProbe: {grpc: {port: %[1]d}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 1}
`, listener.Addr().(*net.TCPAddr).Port))
	healths.SetServingStatus("shop", healthpb.HealthCheckResponse_NOT_SERVING)
	s.waits("pod/rpc", "--for=condition=Ready=false")
	s.has("rpc", "0", ".status.containerStatuses[0].restartCount")
	healths.SetServingStatus("shop", healthpb.HealthCheckResponse_SERVING)
	s.waits("pod/rpc", "--for=condition=Ready")
	healths.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	s.until("rpc", ".status.containerStatuses[0].restartCount", "1")
}
