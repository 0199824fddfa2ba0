package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Attached is a disk with a mounted ext4 file system on it.
type Attached struct {
	disk *Disk
	// Dir is where the file system is mounted.
	Dir  string
	home string
	fuse *fuse.Server
	loop string
}

// Missing says what this machine lacks for Attach, "" for nothing.
func Missing() string {
	if os.Geteuid() != 0 {
		return "root: loop devices and mounts are made"
	}
	for _, file := range []string{"/dev/fuse", "/dev/loop-control"} {
		if _, err := os.Stat(file); err != nil {
			return file + ", which the kernel does not offer here"
		}
	}
	for tool, debian := range map[string]string{"mkfs.ext4": "e2fsprogs", "losetup": "mount", "mount": "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			return tool + ": apt-get install " + debian
		}
	}
	return ""
}

// Format makes a disk an empty ext4 file system.
func (d *Disk) Format(home string) error {
	a := &Attached{disk: d, home: home}
	defer a.release()
	if err := a.expose(); err != nil {
		return err
	}
	return run("mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", a.loop)
}

// Attach gives a disk to the kernel, which replays the journal as at a boot. home
// is a directory for the mounts.
func (d *Disk) Attach(home string) (*Attached, error) {
	a := &Attached{disk: d, home: home, Dir: filepath.Join(home, "data")}
	err := a.expose()
	if err == nil {
		err = os.MkdirAll(a.Dir, 0o700)
	}
	if err == nil {
		err = run("mount", "-t", "ext4", "-o", "nodiscard", a.loop, a.Dir)
	}
	if err != nil {
		a.release()
		return nil, err
	}
	return a, nil
}

// A write of the loop device is one of the disk: of more that it had to become, the first
// might be done and another fail, and the loop device takes what was done in part for done.
const (
	mostWrite   = 128 << 10 // bytes at once, of the loop device
	mostRequest = 1 << 20   // of FUSE, which counts what begins within a page as a page more
)

// expose makes the file and the loop device.
func (a *Attached) expose() error {
	dir := filepath.Join(a.home, "fuse")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var err error
	a.fuse, err = fs.Mount(dir, &root{disk: a.disk}, &fs.Options{MountOptions: fuse.MountOptions{
		DirectMountStrict: true, FsName: "torture", DisableXAttrs: true, MaxBackground: 64, MaxWrite: mostRequest,
	}})
	if err != nil {
		return fmt.Errorf("cannot mount the disk's FUSE file system: %w", err)
	}
	out, err := exec.Command("losetup", "--find", "--show", filepath.Join(dir, imageName)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("losetup: %w: %s", err, out)
	}
	a.loop = strings.TrimSpace(string(out))
	queue := "/sys/block/" + filepath.Base(a.loop) + "/queue/"
	if err := os.WriteFile(queue+"max_sectors_kb", fmt.Append(nil, mostWrite>>10), 0); err != nil {
		return fmt.Errorf("%s cannot be told to write %d kB at once at most: %w", a.loop, mostWrite>>10, err)
	}
	cache, err := os.ReadFile(queue + "write_cache")
	if err != nil || strings.TrimSpace(string(cache)) != "write back" {
		return fmt.Errorf("%s does not pass flushes on (its cache is %q, %w)", a.loop, cache, err)
	}
	return nil
}

// Detach unmounts in order; nothing is lost.
func (a *Attached) Detach() error {
	if err := syscall.Unmount(a.Dir, 0); err != nil {
		return fmt.Errorf("cannot unmount %s: %w", a.Dir, err)
	}
	return a.release()
}

// Abandon takes the disk from the kernel after a power cut. What used it must be
// dead, and Die called.
func (a *Attached) Abandon() error {
	// The kernel wants to write to a disk that is gone; what it says of that in its
	// own log is expected.
	err := syscall.Unmount(a.Dir, 0)
	if errors.Is(err, syscall.EBUSY) {
		err = fmt.Errorf("something still uses %s: %w", a.Dir, errors.Join(err, syscall.Unmount(a.Dir, syscall.MNT_DETACH)))
	}
	return errors.Join(err, a.release())
}

func (a *Attached) release() error {
	var errs []error
	if a.loop != "" {
		errs = append(errs, run("losetup", "--detach", a.loop))
		a.loop = ""
	}
	if a.fuse != nil {
		errs = append(errs, patiently(a.fuse.Unmount))
		a.fuse = nil
	}
	return errors.Join(errs...)
}

// patiently tries again while something is busy: the kernel lets go of a loop device
// in its own time.
func patiently(do func() error) error {
	err := do()
	for until := time.Now().Add(10 * time.Second); errors.Is(err, syscall.EBUSY) && time.Now().Before(until); err = do() {
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

const imageName = "disk"

// root is the FUSE file system: a directory with one file, the disk.
type root struct {
	fs.Inode
	disk *Disk
}

// OnAdd implements fs.NodeOnAdder.
func (r *root) OnAdd(ctx context.Context) {
	r.AddChild(imageName, r.NewPersistentInode(ctx, &image{disk: r.disk}, fs.StableAttr{Mode: syscall.S_IFREG}), true)
}

// image is the disk as a file.
type image struct {
	fs.Inode
	disk *Disk
}

var (
	_ fs.NodeOnAdder   = (*root)(nil)
	_ fs.NodeGetattrer = (*image)(nil)
	_ fs.NodeOpener    = (*image)(nil)
	_ fs.NodeReader    = (*image)(nil)
	_ fs.NodeWriter    = (*image)(nil)
	_ fs.NodeFsyncer   = (*image)(nil)
)

// Getattr implements fs.NodeGetattrer.
func (i *image) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = syscall.S_IFREG|0o600, uint64(i.disk.size)
	return 0
}

// Open implements fs.NodeOpener. The kernel is to cache nothing of the file: the
// cache is the disk's.
func (i *image) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

// Read implements fs.NodeReader.
func (i *image) Read(_ context.Context, _ fs.FileHandle, dest []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	dest = dest[:max(0, min(int64(len(dest)), i.disk.size-offset))]
	return fuse.ReadResultData(dest), errno(i.disk.ReadAt(dest, offset))
}

// Write implements fs.NodeWriter.
func (i *image) Write(_ context.Context, _ fs.FileHandle, data []byte, offset int64) (uint32, syscall.Errno) {
	return uint32(len(data)), errno(i.disk.WriteAt(data, offset))
}

// Fsync implements fs.NodeFsyncer: it is the kernel's flush.
func (i *image) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	return errno(i.disk.Flush())
}

func errno(err error) syscall.Errno {
	if err != nil {
		return syscall.EIO
	}
	return 0
}
