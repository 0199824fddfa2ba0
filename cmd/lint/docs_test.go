package lint

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile("(?m)^#+ +(.+)$")
	fence    = regexp.MustCompile("(?ms)^```.*?^```")
	decision = regexp.MustCompile(`[Dd]ecisions? (\d{4})\b`)
	unsaid   = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// What the documents refer to is there: files, headings and decisions.
func TestDocumentsLeadSomewhere(t *testing.T) {
	const top = "../.."
	documents, err := filepath.Glob(filepath.Join(top, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Join(top, "docs"), func(path string, d fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			documents = append(documents, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(documents) < 10 {
		t.Fatalf("only %q were found", documents)
	}
	for _, document := range documents {
		text := prose(t, document)
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			file, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(file, "://") {
				continue
			}
			target := document
			if file != "" {
				target = filepath.Join(filepath.Dir(document), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s leads to %s, which is not there", document, m[1])
			} else if anchor != "" && !slices.Contains(anchors(prose(t, target)), anchor) {
				t.Errorf("%s leads to %s, and there is no such heading", document, m[1])
			}
		}
		for _, m := range decision.FindAllStringSubmatch(text, -1) {
			if found, _ := filepath.Glob(filepath.Join(top, "docs/decisions", m[1]+"-*.md")); len(found) != 1 {
				t.Errorf("%s speaks of decision %s, of which there are %d", document, m[1], len(found))
			}
		}
	}
}

// prose is a document without its blocks of code.
func prose(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fence.ReplaceAllString(string(text), "")
}

// anchors are the headings as links name them.
func anchors(text string) (names []string) {
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		name := unsaid.ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
