package clusters

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Upstream starts etcd, Kubernetes' control plane and kwok, each with what is
// known to make it fast: no limit of requests, no queueing of them, no
// authorization, tokens that cost nothing to check, enough workers, and only the
// controllers that Reprise has too.
func Upstream(ctx context.Context, o Options) (*Cluster, error) {
	c, err := begin("upstream", o)
	if err != nil {
		return nil, err
	}
	c.environment = o.Environment
	if err := c.upstream(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *Cluster) upstream(ctx context.Context) error {
	free, err := addresses(6)
	if err != nil {
		return err
	}
	files, err := c.prepare(free[2])
	if err != nil {
		return err
	}
	if err := c.etcd(ctx, free[0], free[1]); err != nil {
		return err
	}
	if err := c.apiserver(ctx, free[0], free[2], files); err != nil {
		return err
	}
	if err := c.deciders(free[3], free[4], files); err != nil {
		return err
	}
	if err := c.kwok(files, free[5]); err != nil {
		return err
	}
	return c.createNodes(ctx)
}

// etcd keeps its data beside everything else, and syncs each write to the disk, as
// it does unless told otherwise.
func (c *Cluster) etcd(ctx context.Context, address, peers string) error {
	data := filepath.Join(c.o.Dir, "etcd")
	// Its write-ahead log is not counted: it is given back.
	c.Data = []string{filepath.Join(data, "member", "snap")}
	if _, err := c.start(c.Control, "etcd", "etcd", "--data-dir", data,
		"--listen-client-urls", "http://"+address, "--advertise-client-urls", "http://"+address,
		"--listen-peer-urls", "http://"+peers, "--initial-advertise-peer-urls", "http://"+peers, "--initial-cluster", "default=http://"+peers,
		"--quota-backend-bytes", "8589934592", "--log-level", "error"); err != nil {
		return err
	}
	return c.await(ctx, "serving keys", func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/health", nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("etcd: %s", answer.Status)
		}
		return nil
	})
}

func (c *Cluster) apiserver(ctx context.Context, etcd, address string, f files) error {
	if _, err := c.start(c.Control, "apiserver", "kube-apiserver",
		"--etcd-servers", "http://"+etcd, "--bind-address", "127.0.0.1", "--secure-port", port(address),
		"--cert-dir", filepath.Join(c.o.Dir, "certificates"), "--token-auth-file", f.tokens,
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", f.key, "--service-account-signing-key-file", f.key,
		"--service-cluster-ip-range", "10.96.0.0/16",
		"--authorization-mode", "AlwaysAllow", "--enable-priority-and-fairness=false",
		"--max-requests-inflight", "0", "--max-mutating-requests-inflight", "0", "--profiling=false"); err != nil {
		return err
	}
	c.Kubeconfig = f.kubeconfig
	return c.use(ctx)
}

// controllers are those that Reprise has too.
var controllers = []string{
	"deployment-controller", "replicaset-controller", "node-lifecycle-controller", "taint-eviction-controller", "pod-garbage-collector-controller",
	"namespace-controller", "garbage-collector-controller", "serviceaccount-controller", "root-ca-certificate-publisher-controller",
	"clusterrole-aggregation-controller",
}

// deciders are the controller manager and the scheduler.
func (c *Cluster) deciders(managers, schedulers string, f files) error {
	const unlimited = "100000"
	if _, err := c.start(c.Control, "controllers", "kube-controller-manager",
		"--kubeconfig", f.kubeconfig, "--bind-address", "127.0.0.1", "--secure-port", port(managers), "--cert-dir", filepath.Join(c.o.Dir, "controllers"),
		"--controllers", strings.Join(controllers, ","), "--leader-elect=false",
		"--kube-api-qps", unlimited, "--kube-api-burst", unlimited, "--kube-api-content-type", "application/vnd.kubernetes.protobuf",
		"--concurrent-deployment-syncs", "20", "--concurrent-replicaset-syncs", "20", "--concurrent-gc-syncs", "40", "--concurrent-namespace-syncs", "20",
		"--root-ca-file", filepath.Join(c.o.Dir, "certificates", "apiserver.crt"), "--service-account-private-key-file", f.key,
		"--node-monitor-grace-period", "40s", "--node-eviction-rate", "1000", "--profiling=false"); err != nil {
		return err
	}
	_, err := c.start(c.Control, "scheduler", "kube-scheduler", "--config", f.scheduler,
		"--bind-address", "127.0.0.1", "--secure-port", port(schedulers), "--cert-dir", filepath.Join(c.o.Dir, "scheduler"))
	return err
}

// part is the label that says which kwok runs a node.
const part = "reprise.dev/part"

func (c *Cluster) kwok(f files, address string) error {
	run := func(name, nodes string) (*process, error) {
		return c.start(c.Nodes, name, "kwok", "--kubeconfig", f.kubeconfig, "--config", f.kwok, "--config", filepath.Join(c.o.Binaries, "stages.yaml"),
			"--manage-nodes-with-label-selector", part+"="+nodes, "--node-lease-duration-seconds", "40", "--v", "ERROR")
	}
	if _, err := run("kwok", "kept"); err != nil || c.o.Lost == 0 {
		return err
	}
	lost, err := run("lost-kwok", "lost")
	c.Fail = func() error { delete(c.Nodes, "lost-kwok"); return lost.kill() }
	return err
}

// createNodes makes the nodes as large as hollow ones are.
func (c *Cluster) createNodes(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(20)
	size := core.ResourceList{core.ResourceCPU: resource.MustParse("32"), core.ResourceMemory: resource.MustParse("256Gi"), core.ResourcePods: *resource.NewQuantity(PodsPerNode, resource.DecimalSI)}
	for i := range c.o.Nodes {
		name, runs := fmt.Sprintf("kwok-%04d", i), "kept"
		if i < c.o.Lost {
			runs = "lost"
		}
		group.Go(func() error {
			_, err := client.CoreV1().Nodes().Create(ctx, &core.Node{
				ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{part: runs, core.LabelHostname: name}},
				Status:     core.NodeStatus{Capacity: size, Allocatable: size},
			}, metav1.CreateOptions{})
			return err
		})
	}
	return group.Wait()
}

// files are what the programs read.
type files struct{ key, tokens, kubeconfig, scheduler, kwok string }

// prepare writes what the programs read.
func (c *Cluster) prepare(api string) (f files, err error) {
	at := func(name string) string { return filepath.Join(c.o.Dir, name) }
	f = files{key: at("service-accounts.key"), tokens: at("tokens"), kubeconfig: at("kubeconfig"), scheduler: at("scheduler.yaml"), kwok: at("kwok.yaml")}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return f, err
	}
	token := rand.Text()
	config := clientcmdapi.NewConfig()
	config.Clusters["upstream"] = &clientcmdapi.Cluster{Server: "https://" + api, InsecureSkipTLSVerify: true}
	config.AuthInfos["admin"] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts["admin"] = &clientcmdapi.Context{Cluster: "upstream", AuthInfo: "admin"}
	config.CurrentContext = "admin"
	err = clientcmd.WriteToFile(*config, f.kubeconfig)
	for path, content := range map[string]string{
		f.key:    string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
		f.tokens: token + ",admin,admin,system:masters\n",
		f.scheduler: fmt.Sprintf(`apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false}
enableProfiling: false
clientConnection: {kubeconfig: %q, qps: 100000, burst: 100000, contentType: application/vnd.kubernetes.protobuf}
`, f.kubeconfig),
		f.kwok: `apiVersion: config.kwok.x-k8s.io/v1alpha1
kind: KwokConfiguration
options: {podPlayStageParallelism: 16, nodePlayStageParallelism: 16, nodeLeaseParallelism: 16}
`,
	} {
		err = errors.Join(err, os.WriteFile(path, []byte(content), 0o600))
	}
	return f, err
}
