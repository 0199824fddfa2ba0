// Command images builds the images that come with Reprise. Only the Makefile
// calls it; people build theirs with `reprise images build`.
package main

import (
	"debug/elf"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/reprise-run/reprise/agents/node/images"
)

func main() {
	binaries := flag.String("binaries", "", "the directory with the programs pause and demo")
	busybox := flag.String("busybox", "/bin/busybox", "a static busybox")
	to := flag.String("to", "", "the directory for the archives")
	flag.Parse()
	if err := build(*binaries, *busybox, *to); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func build(binaries, busybox, to string) error {
	if err := static(busybox); err != nil {
		return err
	}
	list, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("cannot ask %s for its applets (apt-get install busybox-static): %w", busybox, err)
	}
	applets := strings.Fields(string(list))
	demo := filepath.Join(binaries, "demo")
	if err := images.Write(filepath.Join(to, "demo.tar"),
		images.Demo(demo, busybox, applets, 1),
		images.Demo(demo, busybox, applets, 2)); err != nil {
		return err
	}
	return images.Write(filepath.Join(to, "pause.tar"), images.Pause(filepath.Join(binaries, "pause")))
}

// static refuses a program that needs libraries, which an image of ours lacks.
func static(program string) error {
	f, err := elf.Open(program)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", program, err)
	}
	defer f.Close()
	for _, part := range f.Progs {
		if part.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is not static; apt-get install busybox-static", program)
		}
	}
	return nil
}
