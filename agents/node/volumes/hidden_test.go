package volumes

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHidden keeps texts for the shim. Memory is mounted by root alone.
func TestHidden(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not run: mounting memory needs root")
	}
	s := NewStore(t.TempDir(), nil, nil, time.Now)
	t.Cleanup(func() {
		if err := s.Remove("u-1"); err != nil {
			t.Error(err)
		}
	})
	none := s.Hidden("u-1", "a")
	if err := none.Save(); err != nil || s.Has("u-1") {
		t.Errorf("nothing was hidden, and something saved: %v", err)
	}
	var names []string
	for range 2 {
		h := s.Hidden("u-1", "a")
		for i, text := range []string{"one", "t\"wo"} {
			stands := h.Hide(text)
			parts := strings.SplitN(strings.TrimPrefix(stands, hiddenMark), ":", 3)
			if len(parts) != 3 || parts[0] != string(rune('0'+i)) || parts[2] != filepath.Join(s.Directory("u-1"), "hidden") {
				t.Errorf("%q stands for %q", stands, text)
			}
			names = append(names, parts[1])
		}
		if err := h.Save(); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(s.Directory("u-1"), "hidden")
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != names[2] || names[0] == names[2] {
		t.Fatalf("%v, %v", entries, err)
	}
	var f hiddenFile
	text, err := os.ReadFile(filepath.Join(dir, names[2]))
	if err != nil || json.Unmarshal(text, &f) != nil || f.Name != names[2] || f.Texts[1] != "t\"wo" {
		t.Errorf("%s, %v", text, err)
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil || !strings.Contains(string(mounts), "tmpfs "+dir+" tmpfs") {
		t.Errorf("%s is not in memory: %v", dir, err)
	}
}
