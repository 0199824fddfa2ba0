package node

import (
	"bytes"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Machine is what the node's machine is.
type Machine struct {
	CPUs int
	// Memory and Disk are bytes.
	Memory, Disk int64
	Info         v1.NodeSystemInfo
	// Resolv is the content of the machine's resolv.conf.
	Resolv string
}

// inspect looks at the machine. What it cannot find out it leaves empty: a node
// without a machine id runs pods as well as any other.
func inspect(rootDir string) Machine {
	m := Machine{CPUs: goruntime.NumCPU()}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.Memory = int64(info.Totalram) * int64(info.Unit)
	}
	var fs unix.Statfs_t
	if unix.Statfs(rootDir, &fs) == nil {
		m.Disk = int64(fs.Blocks) * fs.Bsize
	}
	resolv, _ := os.ReadFile("/etc/resolv.conf") // A node without one has no DNS to offer.
	m.Resolv = string(resolv)
	m.Info = v1.NodeSystemInfo{
		OperatingSystem: goruntime.GOOS, Architecture: goruntime.GOARCH,
		MachineID: content("/etc/machine-id"), SystemUUID: content("/sys/class/dmi/id/product_uuid"),
		BootID: content("/proc/sys/kernel/random/boot_id"), OSImage: osImage(),
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Info.KernelVersion = string(bytes.TrimRight(name.Release[:], "\x00"))
	}
	return m
}

func content(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

func osImage() string {
	for line := range strings.Lines(content("/etc/os-release")) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			if name, err := strconv.Unquote(value); err == nil {
				return name
			}
			return value
		}
	}
	return "Linux"
}

// reserve is the memory that pods cannot have, as upstream's default.
const reserve = 100 << 20

func (m Machine) capacity(pods int) v1.ResourceList {
	return v1.ResourceList{
		v1.ResourceCPU:              *resource.NewQuantity(int64(m.CPUs), resource.DecimalSI),
		v1.ResourceMemory:           *resource.NewQuantity(m.Memory, resource.BinarySI),
		v1.ResourceEphemeralStorage: *resource.NewQuantity(m.Disk, resource.BinarySI),
		v1.ResourcePods:             *resource.NewQuantity(int64(pods), resource.DecimalSI),
	}
}

func (m Machine) allocatable(pods int) v1.ResourceList {
	list := m.capacity(pods)
	list[v1.ResourceMemory] = *resource.NewQuantity(max(m.Memory-reserve, 0), resource.BinarySI)
	list[v1.ResourceEphemeralStorage] = *resource.NewQuantity(m.Disk/10*9, resource.BinarySI)
	return list
}
