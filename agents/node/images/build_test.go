package images

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// listing prints what an image holds, a line a file.
func listing(t *testing.T, img v1.Image) string {
	t.Helper()
	var out strings.Builder
	content := mutate.Extract(img)
	defer content.Close()
	for r := tar.NewReader(content); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out.String()
		} else if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%c %04o %s", h.Typeflag, h.Mode, h.Name)
		if h.Linkname != "" {
			fmt.Fprintf(&out, " -> %s", h.Linkname)
		}
		out.WriteByte('\n')
	}
}

func site(t *testing.T) Spec {
	t.Helper()
	dir := t.TempDir()
	for path, text := range map[string]string{"root/www/index.html": "hello", "web": "binary"} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "web"), 0o755); err != nil {
		t.Fatal(err)
	}
	return Spec{
		Name:       "site",
		Dir:        filepath.Join(dir, "root"),
		Files:      []File{{From: filepath.Join(dir, "web"), To: "/usr/bin/web"}},
		Links:      map[string]string{"/bin/sh": "busybox"},
		Entrypoint: []string{"/usr/bin/web"},
		Env:        []string{"A=b"},
	}
}

func TestBuildKeepsFilesLinksAndModes(t *testing.T) {
	img, err := Build(site(t))
	if err != nil {
		t.Fatal(err)
	}
	want := `5 0755 bin
2 0777 bin/sh -> busybox
5 0755 dev
5 0755 etc
5 0755 proc
5 0755 sys
5 1777 tmp
5 0755 usr
5 0755 usr/bin
0 0755 usr/bin/web
5 0755 www
0 0644 www/index.html
`
	if got := strings.ReplaceAll(listing(t, img), "/\n", "\n"); got != want {
		t.Errorf("the image holds\n%swant\n%s", got, want)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintln(config.Config.Entrypoint, config.Config.Env, config.Config.WorkingDir); got != "[/usr/bin/web] [A=b] /\n" {
		t.Errorf("configuration: %s", got)
	}
}

func TestSameFilesGiveSameDigest(t *testing.T) {
	var digests []string
	for range 2 {
		img, err := Build(site(t))
		if err != nil {
			t.Fatal(err)
		}
		digest, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, digest.String())
	}
	if digests[0] != digests[1] {
		t.Errorf("the same files gave %s and %s", digests[0], digests[1])
	}
}

func TestWriteNamesImagesInFull(t *testing.T) {
	archive := filepath.Join(t.TempDir(), "site.tar")
	if err := Write(archive, site(t)); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("docker.io/library/site:latest")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tarball.ImageFromPath(archive, &tag); err != nil {
		t.Errorf("the archive lacks the image: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	spec := site(t)
	spec.Name = "Not A Name"
	if err := Write(filepath.Join(t.TempDir(), "a.tar"), spec); err == nil || !strings.Contains(err.Error(), "Not A Name") {
		t.Errorf("a bad name: %v", err)
	}
	spec = site(t)
	spec.Files = []File{{From: t.TempDir(), To: "/dir"}}
	if _, err := Build(spec); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("a directory as a file: %v", err)
	}
	if _, err := List(t.Context(), "/nowhere/c.sock"); err == nil || !strings.Contains(err.Error(), "reprise up") {
		t.Errorf("no containerd: %v", err)
	}
}
