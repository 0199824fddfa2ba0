package volumes

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// hiddenMark begins what stands for a hidden text: "<mark><index>:<name>:<dir>",
// for an element of the list in the file of that name and directory. Our shim for
// containerd (cmd/tools/containerd/shim) puts the text in its place.
const hiddenMark = "reprise.run/hidden:"

// Hidden keeps texts that an attempt at a container is given as variables or
// arguments, and that come from Secrets, in memory: containerd writes what it is
// told to its database, and only the shim needs to know.
type Hidden struct {
	dir, container, name string
	texts                []string
}

// hiddenFile is what the shim reads. The name is that of the file: nobody who could
// write such a file could not guess it.
type hiddenFile struct {
	Name  string   `json:"name"`
	Texts []string `json:"texts"`
}

// Hidden returns what keeps the hidden texts of an attempt at a container.
func (s *Store) Hidden(pod types.UID, container string) *Hidden {
	return &Hidden{
		dir: filepath.Join(s.Directory(pod), "hidden"), container: container,
		name: container + "." + strings.ToLower(rand.Text()),
	}
}

// Hide returns what stands for a text.
func (h *Hidden) Hide(text string) string {
	h.texts = append(h.texts, text)
	return fmt.Sprintf("%s%d:%s:%s", hiddenMark, len(h.texts)-1, h.name, h.dir)
}

// Save makes the texts known to the shim, and forgets those of earlier attempts at
// the container.
func (h *Hidden) Save() error {
	if len(h.texts) == 0 {
		return nil
	}
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return err
	}
	if _, err := tmpfs(h.dir, "mode=0700"); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(h.dir, h.container+".*"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	text, err := json.Marshal(hiddenFile{Name: h.name, Texts: h.texts})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(h.dir, h.name), text, 0o600)
}
