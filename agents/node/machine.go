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

// machine is what the node's machine is.
type machine struct {
	cpus         int
	memory, disk int64
	info         v1.NodeSystemInfo
	hostname     string
}

// inspect looks at the machine. What it cannot find out it leaves empty: a node
// without a machine id runs pods as well as any other.
func inspect(rootDir string) machine {
	m := machine{cpus: goruntime.NumCPU()}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.memory = int64(info.Totalram) * int64(info.Unit)
	}
	var fs unix.Statfs_t
	if unix.Statfs(rootDir, &fs) == nil {
		m.disk = int64(fs.Blocks) * fs.Bsize
	}
	m.hostname, _ = os.Hostname()
	m.info = v1.NodeSystemInfo{
		OperatingSystem: goruntime.GOOS, Architecture: goruntime.GOARCH,
		MachineID: content("/etc/machine-id"), SystemUUID: content("/sys/class/dmi/id/product_uuid"),
		BootID: content("/proc/sys/kernel/random/boot_id"), OSImage: osImage(),
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.info.KernelVersion = string(bytes.TrimRight(name.Release[:], "\x00"))
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

func (m machine) capacity(pods int) v1.ResourceList {
	return v1.ResourceList{
		v1.ResourceCPU:              *resource.NewQuantity(int64(m.cpus), resource.DecimalSI),
		v1.ResourceMemory:           *resource.NewQuantity(m.memory, resource.BinarySI),
		v1.ResourceEphemeralStorage: *resource.NewQuantity(m.disk, resource.BinarySI),
		v1.ResourcePods:             *resource.NewQuantity(int64(pods), resource.DecimalSI),
	}
}

func (m machine) allocatable(pods int) v1.ResourceList {
	list := m.capacity(pods)
	list[v1.ResourceMemory] = *resource.NewQuantity(max(m.memory-reserve, 0), resource.BinarySI)
	list[v1.ResourceEphemeralStorage] = *resource.NewQuantity(m.disk/10*9, resource.BinarySI)
	return list
}
