//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// testEnvironment shows commands, arguments and variables of all sources.
func testEnvironment(t *testing.T, s *space) {
	s.create(`
{apiVersion: v1, kind: ConfigMap, metadata: {name: conf}, data: {COLOUR: blue, SIZE: "7"}}
---
{apiVersion: v1, kind: Secret, metadata: {name: hidden}, stringData: {WORD: xyzzy}}
---
{apiVersion: v1, kind: Service, metadata: {name: shop}, spec: {ports: [{port: 80}], clusterIP: 10.96.77.77}}
---
apiVersion: v1
kind: Pod
metadata: {name: env, labels: {app: env}, annotations: {note: a note}}
spec:
  restartPolicy: Never
  containers:
  - name: env
    image: reprise.run/demo:1
    workingDir: /tmp/elsewhere
    command: [sh, -c, 'env; echo "args $0 $1"; pwd']
    args: [$(COLOUR), $$(COLOUR)]
    resources: {requests: {cpu: 250m}, limits: {memory: 64Mi}}
    envFrom:
    - {prefix: CONF_, configMapRef: {name: conf}}
    - {secretRef: {name: hidden}}
    - {secretRef: {name: none, optional: true}}
    env:
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: conf, key: COLOUR}}}
    - {name: SECRET, valueFrom: {secretKeyRef: {name: hidden, key: WORD}}}
    - {name: ABSENT, valueFrom: {configMapKeyRef: {name: conf, key: none, optional: true}}}
    - {name: BOTH, value: $(COLOUR)-$(WORD)-$(NONE)-$$(COLOUR)}
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: LABEL, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}
    - {name: NOTE, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['note']"}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: HOST, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
    - {name: MEGABYTES, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    - {name: MILLICORES, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}
`)
	s.until("env", ".status.phase", "Succeeded")
	at := strings.Fields(s.field("env", ".spec.nodeName", ".status.podIP", ".status.hostIP"))
	s.lines("the output", s.kubectl("logs", "env"),
		"CONF_COLOUR=blue", "CONF_SIZE=7", "WORD=xyzzy", "COLOUR=blue", "SECRET=xyzzy", "BOTH=blue-xyzzy-$(NONE)-$(COLOUR)",
		"POD=env", "NAMESPACE=environment", "LABEL=env", "NOTE=a note", "ACCOUNT=default", "NODE="+at[0], "IP="+at[1], "HOST="+at[2],
		"MEGABYTES=64", "MILLICORES=250", "args blue $(COLOUR)", "/tmp/elsewhere",
		"SHOP_SERVICE_HOST=10.96.77.77", "SHOP_SERVICE_PORT=80", "KUBERNETES_SERVICE_HOST=10.96.0.1", "KUBERNETES_SERVICE_PORT=443")
}

// testIdentity shows whom containers run as, and what they may do.
func testIdentity(t *testing.T, s *space) {
	s.ready(`
apiVersion: v1
kind: Pod
metadata: {name: user}
spec:
  terminationGracePeriodSeconds: 0
  securityContext: {runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000, supplementalGroups: [4000], runAsNonRoot: true,
    sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "99"}]}
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: a
    image: reprise.run/demo:1
    command: [sleep, "1000"]
    securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, seccompProfile: {type: RuntimeDefault}}
    volumeMounts: [{name: data, mountPath: /data}]
---
apiVersion: v1
kind: Pod
metadata: {name: bare}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: a, image: "reprise.run/demo:1", command: [sleep, "1000"], securityContext: {capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: mighty}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: a, image: "reprise.run/demo:1", command: [sleep, "1000"], securityContext: {privileged: true}}
`)
	s.says("user", "id -u; id -g; id -G", "1000\n3000\n3000 2000 4000")
	s.says("user", "touch /data/mine && stat -c %u:%g /data/mine", "1000:2000")
	s.says("user", "touch /elsewhere 2>&1 | grep -o 'Read-only file system'", "Read-only file system")
	s.says("user", "grep NoNewPrivs /proc/self/status; grep Seccomp: /proc/self/status", "NoNewPrivs:\t1\nSeccomp:\t2")
	s.says("user", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "99")
	s.says("bare", "grep -E 'Cap(Eff|Bnd)' /proc/self/status", "CapEff:\t0000000000000400\nCapBnd:\t0000000000000400")
	s.says("mighty", "mkdir /m && mount -t tmpfs none /m && echo mounted", "mounted")
	out, err := s.try("exec", "bare", "--", "sh", "-c", "mkdir /m; mount -t tmpfs none /m")
	if err == nil {
		t.Errorf("a container without privileges can mount: %s", out)
	}
}

// testHost shows pods that share what the host has.
func testHost(t *testing.T, s *space) {
	s.ready(`
apiVersion: v1
kind: Pod
metadata: {name: inside}
spec:
  hostNetwork: true
  hostPID: true
  hostIPC: true
  terminationGracePeriodSeconds: 0
  containers: [{name: a, image: "reprise.run/demo:1", command: [sleep, "1000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: together}
spec:
  shareProcessNamespace: true
  terminationGracePeriodSeconds: 0
  containers:
  - {name: a, image: "reprise.run/demo:1", command: [sleep, "1000"]}
  - {name: b, image: "reprise.run/demo:1", command: [sleep, "2000"]}
---
apiVersion: v1
kind: Pod
metadata: {name: port}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: a, image: "reprise.run/demo:1", ports: [{containerPort: 8080, hostPort: 18080}], readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}}
`)
	for _, ns := range []string{"net", "pid", "ipc"} {
		ours, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		s.says("inside", "readlink /proc/self/ns/"+ns, ours)
	}
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	s.says("inside", "hostname", hostname)
	s.has("inside", s.field("inside", ".status.hostIP"), ".status.podIP")
	s.mentions("the process list of the pod that shares one", s.sh("together", "ps"), "sleep 1000", "sleep 2000", "pause")
	s.says("port", "ps | grep -c '[p]ause' || true", "0")

	url := fmt.Sprintf("http://%s:18080/", s.field("port", ".status.hostIP"))
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); err != nil || string(body) != "Hello from demo 1 on port\n" {
		t.Errorf("%s answers %q: %v", url, body, err)
	}
}

// testNames shows what a pod calls itself and others.
func testNames(t *testing.T, s *space) {
	s.ready(`
apiVersion: v1
kind: Pod
metadata: {name: plain}
spec:
  terminationGracePeriodSeconds: 0
  hostAliases: [{ip: 192.0.2.7, hostnames: [far, away]}]
  containers: [{name: a, image: "reprise.run/demo:1", command: [sleep, "1000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: named}
spec:
  terminationGracePeriodSeconds: 0
  hostname: box
  subdomain: boxes
  dnsPolicy: None
  dnsConfig: {nameservers: [192.0.2.53], searches: [example.org], options: [{name: ndots, value: "2"}, {name: edns0}]}
  containers: [{name: a, image: "reprise.run/demo:1", command: [sleep, "1000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: full}
spec:
  terminationGracePeriodSeconds: 0
  hostname: box
  subdomain: boxes
  setHostnameAsFQDN: true
  containers: [{name: a, image: "reprise.run/demo:1", command: [sleep, "1000"]}]
`)
	s.says("plain", "hostname; echo $HOSTNAME", "plain\nplain")
	s.lines("/etc/hosts", s.sh("plain", "cat /etc/hosts"), "127.0.0.1\tlocalhost", s.field("plain", ".status.podIP")+"\tplain", "192.0.2.7\tfar\taway")
	s.says("named", "hostname", "box")
	s.lines("/etc/hosts", s.sh("named", "cat /etc/hosts"), s.field("named", ".status.podIP")+"\tbox.boxes.names.svc.cluster.local\tbox")
	s.says("named", "cat /etc/resolv.conf", "search example.org\nnameserver 192.0.2.53\noptions ndots:2 edns0")
	s.says("full", "hostname", "box.boxes.names.svc.cluster.local")
}

// testResources shows limits at work.
func testResources(t *testing.T, s *space) {
	s.create(`
apiVersion: v1
kind: Pod
metadata: {name: oom}
spec:
  restartPolicy: Never
  containers:
  - {name: a, image: "reprise.run/demo:1", command: [sh, -c, "head -c 200m /dev/zero | tail"], resources: {limits: {memory: 24Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: limited}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: a, image: "reprise.run/demo:1", command: [sh, -c, "while :; do :; done"], resources: {limits: {cpu: 50m, memory: 64Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: burstable}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: a, image: "reprise.run/demo:1", command: [sleep, "1000"], resources: {requests: {cpu: 1m}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: modest}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: a, image: "reprise.run/demo:1", command: [sleep, "1000"]}]
`)
	s.waits("pod/limited", "pod/burstable", "pod/modest", "--for=condition=Ready")
	s.has("limited", "Guaranteed", ".status.qosClass")
	s.has("burstable", "Burstable", ".status.qosClass")
	s.has("modest", "BestEffort", ".status.qosClass")
	// The first path is that of cgroup v1, the second that of v2.
	s.says("limited", "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max 2>/dev/null || true", "67108864")
	s.mentions("the quota", s.sh("limited", "cd /sys/fs/cgroup; cat cpu/cpu.cfs_quota_us cpu.max 2>/dev/null || true"), "5000")
	s.eventuallySays("limited", "cd /sys/fs/cgroup; cat cpu/cpu.stat cpu.stat 2>/dev/null | grep -q 'nr_throttled [1-9]' && echo throttled", "throttled")

	s.until("oom", ".status.phase", "Failed")
	s.has("oom", "OOMKilled 137", ".status.containerStatuses[0].state.terminated.reason", ".status.containerStatuses[0].state.terminated.exitCode")
	s.mentions("reprise history", s.must("reprise", "history", "pods/"+s.name+"/oom"), "container.exited", "137", "OOMKilled", "pod.failed")
}
