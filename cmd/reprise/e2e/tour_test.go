//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTour types every command of the README's tour into a shell, as a reader
// would, and stops at the first that fails.
func TestTour(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(repository(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllSubmatch(readme, -1) {
		script.Write(block[1])
	}
	if strings.Count(script.String(), "\n") < 8 {
		t.Fatalf("the README has hardly any commands to try:\n%s", &script)
	}
	c := newCluster(t)
	sh := c.command("reprise")
	sh.Path, sh.Args = "/bin/bash", []string{"bash", "-euxo", "pipefail", "-c", script.String()}
	out, err := sh.CombinedOutput()
	if err != nil {
		t.Fatalf("the tour stops: %v\n%s", err, out)
	}
	for _, part := range []string{"deployment.created", "deployment.scaled", "pod.bound", "identical"} {
		if !strings.Contains(string(out), part) {
			t.Errorf("the tour shows no %q:\n%s", part, out)
		}
	}
}
