package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReveal(t *testing.T) {
	dir := t.TempDir()
	const name = "a.5dyu7qk3"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(`{"name":"`+name+`","texts":["one","--password=t\"wo"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	stands := func(index string) string { return hiddenMark + index + ":" + name + ":" + dir }
	got, err := reveal([]byte(`{"args":["run","` + stands("1") + `"],"cwd":"/","env":["PATH=/bin","A=` + stands("0") + `","B=x ` + stands("0") + `","EMPTY="]}`))
	want := `{"args":["run","--password=t\"wo"],"cwd":"/","env":["PATH=/bin","A=one","B=x ` + stands("0") + `","EMPTY="]}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v\nwant %s", got, err, want)
	}
	if err := os.Symlink(filepath.Join(dir, name), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		stands("2"), stands("-1"),
		hiddenMark + "0:gone:" + dir, hiddenMark + "0:link:" + dir, hiddenMark + "0:.:" + dir,
		hiddenMark + "0:shadow:/etc", hiddenMark + "0:zero:/dev",
	} {
		if text, err := hidden(bad); err == nil {
			t.Errorf("%s gives %q", bad, text)
		}
	}
	for _, plain := range []string{"", hiddenMark, hiddenMark + "0", hiddenMark + "x:y:/z", hiddenMark + "0:a/b:/c", hiddenMark + "0:a:b"} {
		if text, err := hidden(plain); err != nil || text != plain {
			t.Errorf("%q gives %q, %v", plain, text, err)
		}
	}
	if _, err := reveal([]byte("{")); err == nil || strings.Contains(err.Error(), name) {
		t.Errorf("what is no process: %v", err)
	}
}

// TestOnlyFilesAreOpened names a pipe, which stands for a device that does something
// when it is opened.
func TestOnlyFilesAreOpened(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	opened, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(opened)
	if _, err := unix.InotifyAddWatch(opened, pipe, unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	if text, err := hidden(hiddenMark + "0:pipe:" + dir); err == nil {
		t.Errorf("a pipe gives %q", text)
	}
	if n, err := unix.Read(opened, make([]byte, 4096)); err != unix.EAGAIN {
		t.Errorf("it was opened: %d bytes, %v", n, err)
	}
}
