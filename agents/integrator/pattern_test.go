package integrator_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/reprise-run/reprise/agents/integrator"
)

// TestPatterns reads a pattern a line.
func TestPatterns(t *testing.T) {
	datadriven.RunTest(t, "testdata/patterns.txt", func(t *testing.T, d *datadriven.TestData) string {
		var out strings.Builder
		for line := range strings.Lines(d.Input) {
			f, err := integrator.ParsePattern(strings.TrimSuffix(line, "\n"))
			if err != nil {
				message, _, _ := strings.Cut(err.Error(), "; write for example")
				message, _, _ = strings.Cut(message, "; there are") // The table grows.
				fmt.Fprintln(&out, message)
				continue
			}
			fmt.Fprintf(&out, "group %q resource %q namespace %q fact %q\n", f.Group, f.Resource, f.Namespace, f.Fact)
		}
		return out.String()
	})
}
