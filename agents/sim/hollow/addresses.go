package hollow

import "net/netip"

// MaxNodes is how many nodes have addresses of their own.
const MaxNodes = 1 << 14

// Addresses are those of the node of a number: its own, and the range of its pods.
// Nothing listens there. They are apart from those of real pods and services.
func Addresses(number int) (node netip.Addr, pods netip.Prefix) {
	high, low := byte(number>>8), byte(number)
	node = netip.AddrFrom4([4]byte{100, 64 + high, low, 1})
	return node, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 128 + high, low, 0}), 24)
}
