package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/nats-io/nats.go"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/committer"
	"github.com/reprise-run/reprise/events/jetstream"
	"github.com/reprise-run/reprise/events/near"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
	"github.com/reprise-run/reprise/projections/pebble"
)

// ours is the part of a server through which each write goes.
type ours struct {
	server    *jetstream.Server
	nats      *nats.Conn
	store     *pebble.Store
	live      *live.Live
	committer *committer.Committer
	stop      func()
}

func startOurs(ctx context.Context, dir string) (s side, err error) {
	o := &ours{}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	if o.server, err = jetstream.StartServer(jetstream.ServerOptions{Dir: filepath.Join(dir, "log")}); err != nil {
		return nil, err
	}
	if o.nats, err = o.server.Connect(); err != nil {
		return nil, err
	}
	stream, err := jetstream.History(ctx, o.nats, jetstream.Config{})
	if err != nil {
		return nil, err
	}
	log := near.New(stream, near.Options{})
	quiet := slog.New(slog.DiscardHandler)
	if o.store, err = pebble.Open(filepath.Join(dir, "projection"), pebble.Options{Log: quiet}); err != nil {
		return nil, err
	}
	if o.live, err = live.Start(ctx, log, live.Options{Store: o.store, Log: quiet}); err != nil {
		return nil, err
	}
	o.committer = committer.New(log, o.live, committer.Options{Shape: projections.CheckShape, Singly: -1})
	running, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = o.committer.Run(running) // What it does not take, the writers are told.
	}()
	o.stop = func() { cancel(); <-done }
	<-o.committer.Begun()
	return o, nil
}

func (o *ours) write(ctx context.Context, name string, value []byte) error {
	object := events.Ref{Resource: "pods", Namespace: "default", Name: name}
	_, err := o.committer.Propose(ctx, events.Proposal{
		Actor: events.Actor{Kind: "api", Version: "bench"}, User: "system:serviceaccount:kube-system:replicaset-controller",
		Decision: events.Decision{
			Changes: []events.Change{{Type: "pod.created", Object: object, Data: value}},
			Expect:  []events.Expectation{{Object: object}},
		},
	})
	return err
}

func (o *ours) close() {
	if o.stop != nil {
		o.stop()
	}
	if o.live != nil {
		o.live.Close()
	}
	if o.store != nil {
		o.store.Close()
	}
	if o.nats != nil {
		o.nats.Close()
	}
	if o.server != nil {
		o.server.Shutdown()
	}
}

// pod is one of a ReplicaSet's pods as it is stored when it is made, in
// canonical JSON of 1.6 kB.
func pod(name string, writer, n int) []byte {
	return fmt.Appendf(nil, podText, name, writer, n)
}

// podText has what admission and defaults make of a pod with one container.
const podText = `{"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":"2026-01-01T00:00:00Z","generateName":"web-6d4cf56db6-","labels":{"app":"web","pod-template-hash":"6d4cf56db6"},"name":"%s","namespace":"default","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"web-6d4cf56db6","uid":"0bd6f0b1-6a9f-4c0b-9a1a-3b0b0a9f0a11"}],"uid":"7f1c8d3e-55a2-4a2b-%04x-%012x"},"spec":{"containers":[{"image":"registry.example.com/shop/web:1.2.3","imagePullPolicy":"IfNotPresent","name":"web","ports":[{"containerPort":8080,"protocol":"TCP"}],"resources":{"limits":{"cpu":"500m","memory":"256Mi"},"requests":{"cpu":"100m","memory":"128Mi"}},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","volumeMounts":[{"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount","name":"kube-api-access-abcde","readOnly":true}]}],"dnsPolicy":"ClusterFirst","enableServiceLinks":true,"preemptionPolicy":"PreemptLowerPriority","priority":0,"restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"serviceAccount":"default","serviceAccountName":"default","terminationGracePeriodSeconds":30,"volumes":[{"name":"kube-api-access-abcde","projected":{"defaultMode":420,"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"items":[{"key":"ca.crt","path":"ca.crt"}],"name":"kube-root-ca.crt"}},{"downwardAPI":{"items":[{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"},"path":"namespace"}]}}]}}]},"status":{"phase":"Pending","qosClass":"Burstable"}}`
