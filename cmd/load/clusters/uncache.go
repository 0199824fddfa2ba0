package clusters

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// uncache has the kernel forget what it keeps of the files in a directory, so that programs lie
// in memory as they do after a boot, when they were read from the disk. One that was just
// linked lies there in larger pieces, and whoever runs it has more of it resident (decision
// 0402). What is mapped by a process that runs stays.
func uncache(dir string) error {
	all, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range all {
		if err := forget(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("the kernel does not forget %s: %w", e.Name(), err)
		}
	}
	return nil
}

func forget(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if is, err := f.Stat(); err != nil || !is.Mode().IsRegular() {
		return err
	}
	if err := f.Sync(); err != nil { // What is not on the disk yet stays.
		return err
	}
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}
