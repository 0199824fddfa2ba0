// Package images makes container images from local files and hands images to a
// node's containerd, both without a registry. `reprise images` and the build
// call it, and the node at its start, for the images that come with it. It never
// pulls, and never runs anything.
package images

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// File is one file of this machine and its place in an image.
type File struct {
	// From is the file here; its permissions are kept.
	From string
	// To is its absolute path in the image.
	To string
}

// Spec says what an image holds and how it starts. The same spec over the same
// files gives the same image, to the digest.
type Spec struct {
	// Name is the image's name with tag, as a pod would ask for it.
	Name string
	// Dir, if set, is a directory whose content becomes the root of the image.
	Dir string
	// Files come on top of Dir.
	Files []File
	// Links are symbolic links: path in the image to target.
	Links map[string]string
	// The rest is the image's configuration.
	Entrypoint, Command, Env, Ports []string
	WorkingDir, User                string
}

// FullName completes a short name as a container runtime does: demo becomes
// docker.io/library/demo:latest.
func FullName(short string) (string, error) {
	named, err := reference.ParseDockerRef(short)
	if err != nil {
		return "", fmt.Errorf("image name %q is not one: %w; write it like registry.example/team/app:1", short, err)
	}
	return named.String(), nil
}

// Write builds the images and writes them into one archive at path, which it
// replaces as a whole. The archive is in the format of `docker save`.
func Write(path string, specs ...Spec) (err error) {
	built := map[name.Tag]v1.Image{}
	for _, spec := range specs {
		full, err := FullName(spec.Name)
		if err != nil {
			return err
		}
		tag, err := name.NewTag(full)
		if err != nil {
			return fmt.Errorf("image name %q needs a tag: %w", spec.Name, err)
		}
		if built[tag], err = Build(spec); err != nil {
			return fmt.Errorf("cannot build image %s: %w", spec.Name, err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	partial := path + ".new"
	defer func() {
		if err != nil {
			_ = os.Remove(partial)
		}
	}()
	if err := tarball.MultiWriteToFile(partial, built); err != nil {
		return fmt.Errorf("cannot write images to %s: %w", path, err)
	}
	return os.Rename(partial, path)
}

// Build makes an image of one layer.
func Build(spec Spec) (v1.Image, error) {
	content, err := layer(spec)
	if err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
		tarball.WithCompressionLevel(gzip.BestSpeed))
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	ports := map[string]struct{}{}
	for _, port := range spec.Ports {
		ports[port] = struct{}{}
	}
	return mutate.ConfigFile(img, &v1.ConfigFile{
		Architecture: runtime.GOARCH,
		OS:           "linux",
		Config: v1.Config{
			Entrypoint:   spec.Entrypoint,
			Cmd:          spec.Command,
			Env:          spec.Env,
			ExposedPorts: ports,
			WorkingDir:   cmp.Or(spec.WorkingDir, "/"),
			User:         spec.User,
		},
		RootFS:  config.RootFS,
		History: []v1.History{{CreatedBy: "reprise images build"}},
	})
}

// layer writes the spec's files as a tar archive in sorted order, with parents
// before children and without times, so that equal files give equal bytes.
func layer(spec Spec) ([]byte, error) {
	entries := map[string]entry{}
	for _, dir := range []string{"dev", "etc", "proc", "sys", "tmp"} {
		entries[dir] = entry{mode: fs.ModeDir | 0o755}
	}
	entries["tmp"] = entry{mode: fs.ModeDir | fs.ModeSticky | 0o777}
	if spec.Dir != "" {
		if err := walk(spec.Dir, entries); err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", spec.Dir, err)
		}
	}
	for _, f := range spec.Files {
		info, err := os.Stat(f.From)
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is not a file; give a directory as the root of the image instead", f.From)
		}
		add(entries, f.To, entry{mode: info.Mode().Perm(), from: f.From})
	}
	for link, target := range spec.Links {
		add(entries, link, entry{mode: fs.ModeSymlink | 0o777, target: target})
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		if err := entries[name].write(w, name); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), w.Close()
}

// entry is one thing in a layer.
type entry struct {
	mode   fs.FileMode
	from   string
	target string
}

// add puts e at a path, and the directories that lead there.
func add(entries map[string]entry, to string, e entry) {
	to = strings.TrimPrefix(path.Clean("/"+to), "/")
	for dir := path.Dir(to); dir != "."; dir = path.Dir(dir) {
		if _, there := entries[dir]; !there {
			entries[dir] = entry{mode: fs.ModeDir | 0o755}
		}
	}
	entries[to] = e
}

func walk(root string, entries map[string]entry) error {
	return filepath.WalkDir(root, func(from string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to, err := filepath.Rel(root, from)
		if err != nil || to == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e := entry{mode: info.Mode(), from: from}
		switch info.Mode().Type() {
		case 0, fs.ModeDir:
		case fs.ModeSymlink:
			if e.target, err = os.Readlink(from); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s is neither a file, a directory nor a link", from)
		}
		add(entries, filepath.ToSlash(to), e)
		return nil
	})
}

func (e entry) write(w *tar.Writer, name string) error {
	header := &tar.Header{Name: name, Mode: int64(e.mode.Perm()), ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if e.mode&fs.ModeSticky != 0 {
		header.Mode |= 0o1000
	}
	switch e.mode.Type() {
	case fs.ModeDir:
		header.Typeflag, header.Name = tar.TypeDir, name+"/"
		return w.WriteHeader(header)
	case fs.ModeSymlink:
		header.Typeflag, header.Linkname = tar.TypeSymlink, e.target
		return w.WriteHeader(header)
	}
	content, err := os.ReadFile(e.from)
	if err != nil {
		return err
	}
	header.Typeflag, header.Size = tar.TypeReg, int64(len(content))
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err = w.Write(content)
	return err
}
