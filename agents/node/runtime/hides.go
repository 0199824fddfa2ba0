package runtime

import (
	"debug/buildinfo"
	"slices"
	"strings"
)

// hidesTag is the build tag by which the shim says that it knows what stands for
// hidden texts.
const hidesTag = "reprise_hides"

// Hides says whether the shim puts hidden texts in their place: whether values of
// Secrets that become variables can be kept from containerd's database. One that was
// built before it could does not.
func (c Config) Hides() bool {
	info, err := buildinfo.ReadFile(c.shim())
	if err != nil {
		return false
	}
	for _, s := range info.Settings {
		if s.Key == "-tags" && slices.Contains(strings.Split(s.Value, ","), hidesTag) {
			return true
		}
	}
	return false
}
