package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

// etcd is one member, in this process.
type etcd struct {
	server *embed.Etcd
	client *clientv3.Client
}

func startEtcd(ctx context.Context, dir string) (side, error) {
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(dir, "etcd")
	cfg.LogLevel = "fatal" // It reports its own end as an error.
	// Nobody calls; any free port will do.
	anywhere := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = anywhere, anywhere
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = anywhere, anywhere
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.QuotaBackendBytes = 8 << 30
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, err
	}
	e := &etcd{server: server, client: v3client.New(server.Server)}
	select {
	case <-server.Server.ReadyNotify():
		return e, nil
	case err := <-server.Err():
		err = errors.Join(err, errors.New("etcd did not start"))
		e.close()
		return nil, err
	case <-time.After(time.Minute):
		e.close()
		return nil, errors.New("etcd did not get ready in a minute")
	}
}

func (e *etcd) write(ctx context.Context, name string, value []byte) error {
	key := "/registry/pods/default/" + name
	done, err := e.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, string(value))).
		Commit()
	if err == nil && !done.Succeeded {
		err = fmt.Errorf("%s exists already", key)
	}
	return err
}

func (e *etcd) close() {
	e.client.Close()
	e.server.Close()
}
