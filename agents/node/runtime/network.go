package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"sigs.k8s.io/knftables"
)

const (
	conflistName = "10-reprise.conflist"
	ipForward    = "/proc/sys/net/ipv4/ip_forward"
	// portmapTable is where the CNI plugin portmap keeps the host ports of all
	// nodes in one network namespace.
	portmapTable = "cni_hostport"
)

// setUpNetwork makes pods' addresses work: it lets packets through, hides pods
// behind the node's address where the rest of the world sees them, and tells
// containerd how to connect a pod.
func setUpNetwork(ctx context.Context, c Config) error {
	if err := forward(); err != nil {
		return err
	}
	if err := masquerade(ctx, c); err != nil {
		return err
	}
	conflist, err := cniConflist(c)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(c.cniConfDir(), conflistName), conflist)
}

func forward() error {
	if now, err := os.ReadFile(ipForward); err == nil && strings.TrimSpace(string(now)) == "1" {
		return nil
	}
	if err := os.WriteFile(ipForward, []byte("1\n"), 0o644); err != nil {
		return fmt.Errorf("pods cannot reach each other unless this machine forwards packets: %w; run `sysctl -w net.ipv4.ip_forward=1`", err)
	}
	return nil
}

// cniConflist connects a pod by a pair of interfaces with a route: unlike a
// bridge this does not depend on how the kernel filters bridged packets.
// Masquerading is not the plugin's, because it would need a change of nft's rules
// for each pod; see masquerade.
func cniConflist(c Config) ([]byte, error) {
	type object = map[string]any
	return json.MarshalIndent(object{
		"cniVersion": "1.0.0",
		"name":       c.network(),
		"plugins": []object{
			{
				"type":   "ptp",
				"ipMasq": false,
				"ipam": object{
					"type":    "host-local",
					"dataDir": c.ipamDir(),
					"ranges":  [][]object{{{"subnet": c.PodCIDR.Masked().String()}}},
					"routes":  []object{{"dst": "0.0.0.0/0"}},
				},
			},
			{
				"type":         "portmap",
				"backend":      "nftables",
				"snat":         true,
				"capabilities": object{"portMappings": true},
			},
		},
	}, "", "  ")
}

// network is the name of the node's CNI network, and of the nft table with our
// one rule.
func (c Config) network() string { return "reprise-" + c.id() }

// masquerade gives packets from this node's pods to outside the cluster the
// node's address, by one rule for all pods.
func masquerade(ctx context.Context, c Config) error {
	nft, err := knftables.New(knftables.IPv4Family, c.network())
	if err != nil {
		return fmt.Errorf("cannot use nft: %w", err)
	}
	const chain = "postrouting"
	tx := nft.NewTransaction()
	tx.Add(&knftables.Table{Comment: knftables.PtrTo("Pods of the Reprise node " + c.Node)})
	tx.Add(&knftables.Chain{
		Name:     chain,
		Type:     knftables.PtrTo(knftables.NATType),
		Hook:     knftables.PtrTo(knftables.PostroutingHook),
		Priority: knftables.PtrTo(knftables.SNATPriority),
	})
	tx.Flush(&knftables.Chain{Name: chain})
	tx.Add(&knftables.Rule{
		Chain: chain,
		Rule: knftables.Concat("ip saddr", c.PodCIDR.Masked(), "ip daddr !=", c.ClusterCIDR.Masked(),
			"ip daddr != 224.0.0.0/4", "masquerade"),
	})
	if err := nft.Run(ctx, tx); err != nil {
		return fmt.Errorf("cannot set nft's rules for pods: %w", err)
	}
	return nil
}

// tearDownNetwork removes the tables: ours, and the CNI plugin's if no node uses
// it any more.
func tearDownNetwork(ctx context.Context, c Config) error {
	ours, err := knftables.New(knftables.IPv4Family, c.network())
	if err != nil {
		return fmt.Errorf("cannot use nft: %w", err)
	}
	failed := deleteTable(ctx, ours)
	for _, family := range []knftables.Family{knftables.IPv4Family, knftables.IPv6Family} {
		portmap, err := knftables.New(family, portmapTable)
		if err != nil {
			return errors.Join(failed, err)
		}
		rules, err := portmap.ListRules(ctx, "hostports")
		if knftables.IsNotFound(err) {
			continue
		}
		if err != nil {
			return errors.Join(failed, err)
		}
		if len(rules) == 0 {
			failed = errors.Join(failed, deleteTable(ctx, portmap))
		}
	}
	return failed
}

func deleteTable(ctx context.Context, nft knftables.Interface) error {
	tx := nft.NewTransaction()
	// Adding first makes deleting work whether it is there or not.
	tx.Add(&knftables.Table{})
	tx.Delete(&knftables.Table{})
	if err := nft.Run(ctx, tx); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot delete an nft table: %w", err)
	}
	return nil
}

// detach gives back addresses and host ports of pods that were not removed in
// order, as libcni noted them when it attached them.
func detach(ctx context.Context, c Config) error {
	if _, err := os.Stat(filepath.Join(libcni.CacheDir, "results")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	cni := libcni.NewCNIConfig([]string{c.CNIDir}, nil)
	attachments, err := cni.GetCachedAttachments("")
	if err != nil {
		return fmt.Errorf("cannot read which pods are attached to the network: %w", err)
	}
	var failed error
	for _, a := range attachments {
		if a.Network != c.network() {
			continue
		}
		list, err := libcni.NetworkConfFromBytes(a.Config)
		if err == nil {
			err = cni.DelNetworkList(ctx, list, &libcni.RuntimeConf{
				ContainerID: a.ContainerID, NetNS: a.NetNS, IfName: a.IfName, Args: a.CniArgs, CapabilityArgs: a.CapabilityArgs,
			})
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("cannot detach the pod sandbox %s from the network: %w", a.ContainerID, err))
		}
	}
	return failed
}
