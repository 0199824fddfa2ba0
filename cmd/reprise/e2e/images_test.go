//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// testImages makes an image of a program, gives it to the node and runs it, all
// without a registry.
func testImages(t *testing.T, c *cluster) {
	archive := filepath.Join(t.TempDir(), "hello.tar")
	c.must("reprise", "images", "build", filepath.Join(repository(), "dist", "images", "bin", "demo"),
		"--name", "example.com/hello:1", "-o", archive)
	if out := c.must("reprise", "images", "import", archive); !strings.Contains(out, "example.com/hello:1") {
		t.Errorf("import does not name what it imported: %s", out)
	}
	if out := c.must("reprise", "images", "list"); !strings.Contains(out, "example.com/hello:1") {
		t.Errorf("list lacks the image:\n%s", out)
	}
	c.kubectl("run", "hello", "--image=example.com/hello:1")
	c.kubectl("wait", "--for=condition=Ready", "pod/hello", "--timeout=1m")
	c.kubectl("delete", "pod", "hello", "--grace-period=1")
}
