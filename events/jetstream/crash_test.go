package jetstream_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/jetstream"
)

// writerDir makes the test binary a writer to be killed.
const writerDir = "REPRISE_TEST_WRITER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerDir); dir != "" {
		fmt.Fprintln(os.Stderr, write(dir))
		os.Exit(1)
	}
	if at := os.Getenv(readersAt); at != "" {
		if err := readAll(at); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// write appends decisions of growing size for ever, and says of each where it
// ended once it was acknowledged.
func write(dir string) error {
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir})
	if err != nil {
		return err
	}
	nc, err := s.Connect()
	if err != nil {
		return err
	}
	log, err := jetstream.History(context.Background(), nc, jetstream.Config{})
	if err != nil {
		return err
	}
	last, err := log.Last(context.Background())
	if err != nil {
		return err
	}
	for {
		batch := some(last+1, 1+int(last%97))
		for i := range batch[:len(batch)-1] {
			batch[i].More = true
		}
		if last, err = log.Append(context.Background(), last, batch); err != nil {
			return err
		}
		fmt.Println(last)
	}
}

// What was acknowledged must be there after the process was killed at any moment,
// and no decision may be there in part.
func TestKilledWriter(t *testing.T) {
	dir := t.TempDir()
	acknowledged := uint64(0)
	for round := range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerDir+"="+dir)
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n < 20+round && lines.Scan(); n++ {
			if acknowledged, err = strconv.ParseUint(strings.TrimSpace(lines.Text()), 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it said in its last moments counts too
			if n, err := strconv.ParseUint(strings.TrimSpace(lines.Text()), 10, 64); err == nil {
				acknowledged = n
			}
		}
		var killed *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &killed) {
			t.Fatalf("the writer ended by itself: %v", err)
		}
		check(t, dir, acknowledged)
	}
}

func check(t *testing.T, dir string, acknowledged uint64) {
	s := start(t, jetstream.ServerOptions{Dir: dir})
	defer s.Shutdown()
	log := openLog(t, s, false)
	last, err := log.Last(t.Context())
	if err != nil || last < acknowledged {
		t.Fatalf("the log ends at %d (%v); %d was acknowledged", last, err, acknowledged)
	}
	r, err := log.Follow(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []events.Event
	for uint64(len(all)) < last {
		got, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, got...)
	}
	for i, e := range all {
		if e.Sequence != uint64(i)+1 || e.Object.Name != fmt.Sprintf("web-%d", e.Sequence) {
			t.Fatalf("event %d is %s", i+1, e.Object)
		}
	}
	if all[len(all)-1].More {
		t.Fatal("the last decision is there in part")
	}
}
