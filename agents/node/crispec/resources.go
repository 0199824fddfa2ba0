package crispec

import (
	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubernetes/pkg/kubelet/qos"
)

// The kernel's terms for processor time.
const (
	sharesPerCPU = 1024
	minShares    = 2
	maxShares    = 262144
	period       = 100000
	minQuota     = 1000
)

// Shares is the weight of a request of so many thousandths of a processor.
func Shares(milli int64) int64 {
	return min(max(milli*sharesPerCPU/1000, minShares), maxShares)
}

// Quota is how much of each period so many thousandths of a processor are, zero
// for no limit.
func Quota(milli int64) int64 {
	if milli == 0 {
		return 0
	}
	return max(milli*period/1000, minQuota)
}

// resources returns the limits of a container.
func (n Node) resources(pod *v1.Pod, c *v1.Container) *runtimeapi.LinuxContainerResources {
	request, limited := c.Resources.Requests[v1.ResourceCPU], c.Resources.Limits[v1.ResourceCPU]
	if request.IsZero() {
		request = limited
	}
	memory := c.Resources.Limits[v1.ResourceMemory]
	return &runtimeapi.LinuxContainerResources{
		CpuShares:          Shares(request.MilliValue()),
		CpuPeriod:          period,
		CpuQuota:           Quota(limited.MilliValue()),
		MemoryLimitInBytes: memory.Value(),
		OomScoreAdj:        int64(qos.GetContainerOOMScoreAdjust(pod, c, n.Memory)),
	}
}
