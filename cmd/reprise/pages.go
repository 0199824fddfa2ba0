package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// forgetProgram has the kernel forget which pages of the program this process has
// used: the start reads most of them, once, and what is in use afterwards is half of
// that and comes back by itself (decision 0348).
func forgetProgram() error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	return forgetFile(self)
}

// forgetFile has the kernel forget the pages of a file that this process has used and
// may not write. Of memory of which any page is no longer the file's all stays: who
// wrote into it before it was closed to writing was the linker of a program that may lie
// anywhere (PIE), or a debugger, and what they wrote is nowhere else.
func forgetFile(path string) error {
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return err
	}
	var from, to uintptr
	var file, own bool // of the mapping that is being told of
	for line := range strings.Lines(string(maps)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		default:
			if strings.Contains(name, " ") { // A mapping begins.
				var may string
				if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &may); err != nil {
					return fmt.Errorf("/proc/self/smaps says %q: %w", line, err)
				}
				file, own = strings.HasSuffix(line, " "+path+"\n") && !strings.Contains(may, "w"), true
			}
		case "Anonymous":
			own = strings.TrimSpace(value) != "0 kB"
		case "Swap":
			own = own || strings.TrimSpace(value) != "0 kB"
		case "VmFlags": // It ends.
			if !file || own {
				continue
			}
			if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED); errno != 0 {
				return os.NewSyscallError("madvise", errno)
			}
		}
	}
	return nil
}
