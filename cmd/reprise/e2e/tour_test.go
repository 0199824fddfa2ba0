//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestTour types every command of the README's tour into a shell, as a reader
// would, and stops at the first that fails.
func TestTour(t *testing.T) {
	c := newCluster(t)
	out := c.walk("README.md", 8)
	for _, part := range []string{"deployment.created", "deployment.scaled", "pod.bound", "spec.replicas", "no differences", "identical"} {
		if !strings.Contains(out, part) {
			t.Errorf("the tour shows no %q:\n%s", part, out)
		}
	}
}

// TestGuide does the same with the guide for operators, on a cluster of its own.
// What a block of commands must print is said below it, in a comment that readers
// do not see:
//
//	<!-- prints: "deployment.image-changed", "for bob" -->
func TestGuide(t *testing.T) {
	c := newCluster(t)
	c.walk("docs/history.md", 20)
}

// A block is some commands of a document, and what they must print.
type block struct {
	commands string
	prints   []string
}

var (
	blocks  = regexp.MustCompile("(?s)```sh\n(.*?)```(?:\\s*<!-- prints: (.*?) -->)?")
	printed = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
)

// walk runs the commands of a document in one shell, up to the first that fails,
// and returns all that they print.
func (c *cluster) walk(document string, least int) string {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(repository(), document))
	if err != nil {
		c.t.Fatal(err)
	}
	var all []block
	var script strings.Builder
	for _, m := range blocks.FindAllStringSubmatch(string(text), -1) {
		b := block{commands: m[1]}
		for _, quoted := range printed.FindAllString(m[2], -1) {
			part, err := strconv.Unquote(quoted)
			if err != nil {
				c.t.Fatalf("%s: %s is no text: %v", document, quoted, err)
			}
			b.prints = append(b.prints, part)
		}
		fmt.Fprintf(&script, "{ set +x; } 2> /dev/null; echo; echo '%s%d'; set -x\n%s", fence, len(all), b.commands)
		all = append(all, b)
	}
	if strings.Count(script.String(), "\n")-len(all) < least {
		c.t.Fatalf("%s has hardly any commands to try:\n%s", document, &script)
	}
	sh := c.command("reprise")
	sh.Path, sh.Args = "/bin/bash", []string{"bash", "-euo", "pipefail", "-c", script.String()}
	out, err := sh.CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s stops: %v\n%s", document, err, out)
	}
	c.t.Logf("%s:\n%s", document, out)
	parts := strings.Split(string(out), "\n"+fence)[1:]
	for i, b := range all {
		for _, part := range b.prints {
			if !strings.Contains(parts[i], part) {
				c.t.Errorf("%s: these commands do not print %q:\n%s", document, part, parts[i])
			}
		}
	}
	return string(out)
}

// fence stands between what two blocks print.
const fence = "@@@ block "
