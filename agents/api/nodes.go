package api

import (
	"context"
	"errors"
	"fmt"
	"net"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/server/egressselector"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// NodeDialer connects to the agent of a node, wherever that is: on the other
// side the agent serves what a kubelet serves, over TLS.
type NodeDialer func(ctx context.Context, node string) (net.Conn, error)

// dialNodes makes upstream's connections to nodes (for logs, exec, attach,
// port-forward and the node proxy) go through a dialer of ours. Upstream has a
// hook for this, meant for its own tunnels.
func dialNodes(config *app.Config, dial NodeDialer) {
	through := func(ctx context.Context, _, address string) (net.Conn, error) {
		node, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		if dial == nil {
			return nil, errors.New("this server has no way to reach nodes")
		}
		conn, err := dial(ctx, node)
		if err != nil {
			return nil, fmt.Errorf("node %s cannot be reached: %w", node, err)
		}
		return conn, nil
	}
	kubelets := &config.KubeAPIs.Extra.KubeletClientConfig
	// The address by which a dialer can tell nodes apart is the node's name.
	kubelets.PreferredAddressTypes = []string{"Hostname"}
	kubelets.Lookup = func(egressselector.NetworkContext) (utilnet.DialFunc, error) { return through, nil }
}
