package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// forgetProgram has the kernel forget which pages of the program this process has
// used: the start reads most of them, once, and what is in use afterwards is half of
// that and comes back by itself. They are the file's pages, which nobody may write, so
// that nothing is lost (decision 0348).
func forgetProgram() error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(maps)) {
		var from, to uintptr
		var may string
		if !strings.HasSuffix(line, " "+self+"\n") {
			continue
		}
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &may); err != nil {
			return fmt.Errorf("/proc/self/maps says %q: %w", line, err)
		}
		if strings.Contains(may, "w") {
			continue // Variables.
		}
		if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED); errno != 0 {
			return os.NewSyscallError("madvise", errno)
		}
	}
	return nil
}
