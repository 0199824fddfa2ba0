package node_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/utils/clock"

	"github.com/reprise-run/reprise/agents/bus"
	"github.com/reprise-run/reprise/agents/bus/feed"
	"github.com/reprise-run/reprise/agents/crew"
	"github.com/reprise-run/reprise/agents/node"
	"github.com/reprise-run/reprise/agents/sim/hollow"
	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/committer"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/schemas/schematest"
)

// deployed is a pod as Deployments make them, with the defaults of the API.
const deployed = `{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"example.com/revision":"1"},"creationTimestamp":"2026-01-01T00:00:00Z","generateName":"app-0001-7c9d8f6b5-","generation":1,"labels":{"app":"app-0001","load":"deployment","pod-template-hash":"7c9d8f6b5","team":"payments","tier":"backend"},"name":%q,"namespace":"shop","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"app-0001-7c9d8f6b5","uid":"6b1f7f6e-0000-4000-8000-000000000001"}],"uid":%q},` +
	`"spec":{"containers":[{"env":[{"name":"LOG_LEVEL","value":"info"},{"name":"POD_NAME","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.name"}}}],"image":"registry.example.com/payments/app:1.0.0","imagePullPolicy":"IfNotPresent","name":"app","ports":[{"containerPort":8080,"name":"http","protocol":"TCP"}],"resources":{"limits":{"cpu":"100m","memory":"64Mi"},"requests":{"cpu":"10m","memory":"16Mi"}},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","volumeMounts":[{"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount","name":"kube-api-access-abcde","readOnly":true}]}],"dnsPolicy":"ClusterFirst","enableServiceLinks":true,"nodeName":%q,"preemptionPolicy":"PreemptLowerPriority","priority":0,"restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"serviceAccount":"default","serviceAccountName":"default","terminationGracePeriodSeconds":30,"tolerations":[{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","operator":"Exists","tolerationSeconds":300},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","operator":"Exists","tolerationSeconds":300}],"volumes":[{"name":"kube-api-access-abcde","projected":{"defaultMode":420,"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"items":[{"key":"ca.crt","path":"ca.crt"}],"name":"kube-root-ca.crt"}},{"downwardAPI":{"items":[{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"},"path":"namespace"}]}}]}}]},` +
	`"status":{"phase":"Pending","qosClass":"Burstable"}}`

// BenchmarkLife has pods come and go on twenty hollow nodes, which hear of them and tell of
// them over NATS. Half of what it says is the server's: the committer, the feed, and the
// schemas that the log checks. A profile tells them apart:
//
//	go test -run '^$' -bench Life -benchtime 8000x -cpuprofile life.cpu ./agents/node
//	go tool pprof -top -cum -focus 'Crew..work|follower..run|agents/node..Agent' node.test life.cpu
func BenchmarkLife(b *testing.B) {
	l := newLives(b)
	ref := func(i int) events.Ref {
		return events.Ref{Resource: "pods", Namespace: "shop", Name: fmt.Sprintf("app-0001-7c9d8f6b5-%05d", i)}
	}
	uid := func(i int) string { return fmt.Sprintf("6b1f7f6e-0000-4000-9000-%012d", i) }
	b.ReportAllocs()
	b.ResetTimer()
	begun := processorTime()
	for i := range b.N {
		l.propose(events.Change{Type: "pod.created", Object: ref(i), UID: uid(i), Data: fmt.Appendf(nil, deployed, ref(i).Name, uid(i), nodeName(i))})
	}
	l.await("pod.ready", b.N)
	up := processorTime()
	for i := range b.N {
		l.propose(events.Change{Type: "pod.terminating", Object: ref(i), UID: uid(i), Data: []byte(
			`[{"op":"add","path":"/metadata/deletionGracePeriodSeconds","value":5},{"op":"add","path":"/metadata/deletionTimestamp","value":"2026-01-01T00:00:00Z"},{"op":"replace","path":"/metadata/generation","value":2}]`)})
	}
	l.await("pod.removed", b.N)
	b.StopTimer()
	b.ReportMetric(float64((up-begun).Microseconds())/float64(b.N), "cpu-us/up")
	b.ReportMetric(float64((processorTime()-up).Microseconds())/float64(b.N), "cpu-us/down")
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const lifeNodes = 20

func nodeName(i int) string { return fmt.Sprintf("n%d", i%lifeNodes) }

// lives is a log with a committer, a feed, and hollow nodes.
type lives struct {
	b    *testing.B
	ctx  context.Context
	gate committer.Route

	mu   sync.Mutex
	more *sync.Cond
	seen map[string]int // how many events there were of each type
}

func newLives(b *testing.B) *lives {
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(cancel)
	l := &lives{b: b, ctx: ctx, seen: map[string]int{}}
	l.more = sync.NewCond(&l.mu)
	log, volatile := schematest.NewLog(b), schematest.NewLog(b)
	view, err := live.Start(ctx, log, live.Options{})
	l.check(err)
	churn, err := live.Start(ctx, volatile, live.Options{Volatile: true})
	l.check(err)
	history := committer.New(log, view, committer.Options{})
	leases := committer.New(volatile, churn, committer.Options{Volatile: true})
	go func() { _ = history.Run(ctx) }()
	go func() { _ = leases.Run(ctx) }()
	l.gate = committer.Route{History: history, Volatile: leases}
	changes, err := view.Changes(ctx, 0)
	l.check(err)
	go l.count(changes)
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: b.TempDir()})
	l.check(err)
	b.Cleanup(server.Shutdown)
	nc, err := server.Connect()
	l.check(err)
	stop, err := jetstream.ServeProposals(nc, "reprise", l.gate, nil)
	l.check(err)
	b.Cleanup(stop)
	ready := make(chan struct{})
	go func() {
		_ = feed.Serve(ctx, nc, "reprise", view, slog.New(slog.DiscardHandler), nil, func() { close(ready) })
	}()
	<-ready
	l.join(server)
	l.await("node.registered", lifeNodes)
	return l
}

// join starts the nodes, on one connection.
func (l *lives) join(server *jetstream.Server) {
	timeline, workers := hollow.NewTimeline(clock.RealClock{}), crew.New(l.ctx)
	go timeline.Run(l.ctx)
	place, err := bus.NewNodes("reprise", "all", []string{nodeName(0)})
	l.check(err)
	nc, err := server.Connect(place.Inbox())
	l.check(err)
	for n := range lifeNodes {
		at, err := bus.NewNode("reprise", nodeName(n))
		l.check(err)
		proposer, err := jetstream.NewProposer(nc, "reprise", events.Actor{Kind: "node", Name: nodeName(n)})
		l.check(err)
		mirror, err := feed.Follow(l.ctx, nc, at, feed.Options{})
		l.check(err)
		runtime := hollow.New(hollow.Options{Node: nodeName(n), Pods: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n)}), 16), Timeline: timeline})
		agent, err := node.New(node.Options{
			Name: nodeName(n), Version: "test", Projection: mirror, Proposer: proposer, Addresses: []string{"10.0.0.1"}, MaxPods: 1 << 20,
			Containers: runtime, Images: runtime, Disk: hollow.NewDisk(), Prober: hollow.Probes{}, Crew: workers,
			Alive:   func(context.Context) (bool, error) { return false, nil },
			Machine: func() node.Machine { return node.Machine{CPUs: 8, Memory: 1 << 40, Disk: 1 << 40} },
			Log:     slog.New(slog.DiscardHandler),
		})
		l.check(err)
		go func() { _ = agent.Run(l.ctx) }()
	}
}

func (l *lives) check(err error) {
	l.b.Helper()
	if err != nil {
		l.b.Fatal(err)
	}
}

func (l *lives) propose(c events.Change) {
	l.b.Helper()
	_, err := l.gate.Propose(l.ctx, events.Proposal{Decision: events.Decision{Changes: []events.Change{c}}, Actor: events.Actor{Kind: "api"}})
	l.check(err)
}

// count counts events until the end.
func (l *lives) count(changes live.Changes) {
	for {
		batch, err := changes.Next(l.ctx)
		if l.ctx.Err() != nil {
			return
		}
		if err != nil {
			panic(err)
		}
		l.mu.Lock()
		for _, c := range batch {
			l.seen[c.Event.Type]++
		}
		l.mu.Unlock()
		l.more.Broadcast()
	}
}

// await returns when there were n events of a type.
func (l *lives) await(typ string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.seen[typ] < n {
		l.more.Wait()
	}
}
