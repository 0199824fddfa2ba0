package hollow

import "net/netip"

const (
	// MaxNodes is how many nodes have addresses of their own.
	MaxNodes = 1 << 14
	// MaxPods is how many pods of a node have: the first two of its range are the network's and
	// the node's.
	MaxPods = 1<<8 - 2
)

// Addresses are those of the node of a number: its own, and the range of its pods.
// Nothing listens there. They are apart from those of real pods and services.
func Addresses(number int) (node netip.Addr, pods netip.Prefix) {
	high, low := byte(number>>8), byte(number)
	node = netip.AddrFrom4([4]byte{100, 64 + high, low, 1})
	return node, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 128 + high, low, 0}), 24)
}
