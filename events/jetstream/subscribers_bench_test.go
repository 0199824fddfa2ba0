package jetstream_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/events/committer"
	"github.com/reprise-run/reprise/events/jetstream"
)

// readersAt makes the test binary a process of subscribers of the server at that
// address, as integrators' programs are other processes.
const readersAt = "REPRISE_TEST_READERS_AT"

// crowd is how many subscribers the benchmark has.
const crowd = 100

// BenchmarkSubscribers appends the same events without subscribers and with a
// hundred, by turns, and prints what the writers and the server's processor pay.
//
// In "each its part" every subscriber follows the pods of a namespace of its own,
// and every tenth has stopped reading; in "none reads" all have; in "all read all"
// each follows the whole log, so that every event is sent a hundred times. Readers
// are on other machines in life, so their process has the lowest priority here;
// "read-%" is how much of what was appended for them they had when the writers
// stopped. Those that read "in order" acknowledge fifty events at a time.
//
// "plain" is what NATS itself takes for the same: the same consumers, read by users of
// the server's own account who may do everything. "delivery-cpu-us" is what the
// server's processor pays more for each event that a subscriber gets.
//
// The loads are one writer that waits for each event, batches of 256 as fast as the
// log takes them, and writers who propose to the committer: as fast as it answers, or
// so many a second in all, where what a subscriber costs is how long they wait.
// "slower-%" is the median over the turns, each against the turns before and after
// it; the other two are the lowest and the highest.
func BenchmarkSubscribers(b *testing.B) {
	ownPart := func(i int) events.Filter {
		return events.Filter{Resource: "pods", Namespace: namespaceOf(i), Fact: "*"}
	}
	mostRead := func(i int) bool { return i%10 != 9 }
	loads := []load{singly{}, batches{256}, writers{256, 0}, writers{256, 300}, writers{256, 1000}, writers{256, 3000}}
	for _, c := range []struct {
		name   string
		filter func(i int) events.Filter
		reads  func(i int) bool
		every  int
		plain  bool
		loads  []load
	}{
		{"each its part", ownPart, mostRead, 1, false, loads},
		{"each its part in order", ownPart, mostRead, 50, false, loads},
		{"each its part plain", ownPart, mostRead, 1, true, []load{singly{}, batches{256}, writers{256, 0}}},
		{"none reads", ownPart, func(int) bool { return false }, 1, false, []load{singly{}, batches{256}}},
		{"all read all", func(int) events.Filter {
			return events.Filter{Group: "*", Resource: "*", Namespace: "*", Fact: "*"}
		}, func(int) bool { return true }, 1, false, []load{singly{}, batches{256}}},
	} {
		for _, l := range c.loads {
			b.Run(fmt.Sprintf("%s, %s", c.name, l), func(b *testing.B) {
				(&bench{load: l, filter: c.filter, reads: c.reads, every: c.every, plain: c.plain}).run(b)
			})
		}
	}
}

func namespaceOf(i int) string { return fmt.Sprintf("shop-%d", i%crowd) }

type bench struct {
	load        load
	filter      func(int) events.Filter
	reads       func(int) bool
	every       int // of so many events a subscriber acknowledges one, and the others by it
	plain       bool
	dir         string
	server      *jetstream.Server
	log         events.Log
	committer   *committer.Committer
	subscribers *jetstream.Subscribers
	last        uint64
	folded      atomic.Uint64 // what the committer needs to remember no longer
}

// cost is what a phase took.
type cost struct {
	events           int
	wall, cpu, other time.Duration
	waits            []time.Duration
	read             int
}

func (c *cost) rate() float64               { return float64(c.events) / c.wall.Seconds() }
func (c *cost) per(d time.Duration) float64 { return float64(d.Microseconds()) / float64(c.events) }

// slower is by how many per cent the rate is lower than that of the turns before and
// after, or, where the load is given, how much longer half of the writers wait.
func (c *cost) slower(before, after cost) float64 {
	if len(c.waits) > 0 {
		return 100 * (2*c.waited(0.5)/(before.waited(0.5)+after.waited(0.5)) - 1)
	}
	return 100 * (1 - 2*c.rate()/(before.rate()+after.rate()))
}

// waited is how long a part of the writers waited at most, in milliseconds.
func (c *cost) waited(part float64) float64 {
	slices.Sort(c.waits)
	return float64(c.waits[int(float64(len(c.waits)-1)*part)].Microseconds()) / 1000
}

func processor(who int, b *testing.B) time.Duration {
	var u syscall.Rusage
	must(b, syscall.Getrusage(who, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (x *bench) run(b *testing.B) {
	x.dir = b.TempDir()
	x.server = start(b, jetstream.ServerOptions{Dir: x.dir, Listen: "127.0.0.1:0"})
	x.log = openLog(b, x.server, false)
	nc, err := x.server.Connect()
	must(b, err)
	defer nc.Close()
	x.subscribers, err = jetstream.OpenSubscribers(b.Context(), x.server, nc, jetstream.Config{}, slog.New(slog.DiscardHandler))
	must(b, err)
	defer x.subscribers.Close()
	if _, ok := x.load.(writers); ok {
		x.committer = committer.New(x.log, &unread{bench: x}, committer.Options{})
		go func() { _ = x.committer.Run(b.Context()) }()
		<-x.committer.Begun()
	}
	var without, with []cost
	x.write(b)
	without = append(without, x.write(b))
	for b.Loop() {
		stop := x.admit(b)
		c := x.write(b)
		c.other, c.read = stop()
		with, without = append(with, c), append(without, x.write(b))
	}
	x.report(b, without, with)
}

func (x *bench) report(b *testing.B, without, with []cost) {
	var slower []float64
	for i := range with {
		slower = append(slower, with[i].slower(without[i], without[i+1]))
	}
	slices.Sort(slower)
	b.ReportMetric(slower[len(slower)/2], "slower-%")
	b.ReportMetric(slower[0], "lowest-%")
	b.ReportMetric(slower[len(slower)-1], "highest-%")
	w, o := sum(without), sum(with)
	b.ReportMetric(w.rate(), "alone-events/s")
	b.ReportMetric(o.rate(), "with-events/s")
	b.ReportMetric(w.per(w.cpu), "alone-cpu-us/event")
	b.ReportMetric(o.per(o.cpu), "with-cpu-us/event")
	b.ReportMetric(o.per(o.other), "readers-cpu-us/event")
	if o.read > 0 {
		b.ReportMetric((o.per(o.cpu)-w.per(w.cpu))*float64(o.events)/float64(o.read), "delivery-cpu-us")
	}
	b.ReportMetric(100*float64(o.read)/float64(o.events)/x.share(), "read-%")
	if len(w.waits) > 0 {
		b.ReportMetric(w.waited(0.5), "alone-p50-ms")
		b.ReportMetric(o.waited(0.5), "with-p50-ms")
		b.ReportMetric(w.waited(0.99), "alone-p99-ms")
		b.ReportMetric(o.waited(0.99), "with-p99-ms")
	}
	b.ReportMetric(0, "ns/op")
}

func sum(all []cost) (c cost) {
	for _, o := range all {
		c.events += o.events
		c.wall += o.wall
		c.cpu += o.cpu
		c.other += o.other
		c.read += o.read
		c.waits = append(c.waits, o.waits...)
	}
	return c
}

// share is how many subscribers read an event, on average.
func (x *bench) share() float64 {
	readers := 0
	for i := range crowd {
		if x.reads(i) {
			readers++
		}
	}
	if x.filter(0).Namespace == "*" {
		return float64(readers)
	}
	return max(float64(readers)/crowd, 1e-9)
}

// write appends for a while, in the namespaces in turn.
func (x *bench) write(b *testing.B) (c cost) {
	cpu, began := processor(syscall.RUSAGE_SELF, b), time.Now()
	x.load.write(b, x, began.Add(3*time.Second), &c)
	c.wall, c.cpu = time.Since(began), processor(syscall.RUSAGE_SELF, b)-cpu
	return c
}

// admit adds the subscribers and starts the process in which they read. The
// returned function ends it, removes them, and says what that process has used
// since they were connected.
func (x *bench) admit(b *testing.B) (stop func() (used time.Duration, read int)) {
	add, remove, seed := x.subscribers.Add, x.subscribers.Remove, "-"
	if x.plain {
		add, remove, seed = x.consumers(b)
	}
	sum := sha256.Sum256([]byte("secret"))
	var reading []string
	for i := range crowd {
		name := fmt.Sprintf("s%d", i)
		must(b, add(b.Context(), events.Subscriber{
			Name: name, Filters: []events.Filter{x.filter(i)}, Password: hex.EncodeToString(sum[:]), After: x.last,
			InOrder: x.every > 1,
		}))
		if x.reads(i) {
			reading = append(reading, name)
		}
	}
	cmd := exec.Command("nice", "-n", "19", os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprint(readersAt, "=", x.server.Addr(), " ", x.every, " ", seed, " ", strings.Join(reading, " ")))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	must(b, err)
	out, err := cmd.StdoutPipe()
	must(b, err)
	must(b, cmd.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		b.Fatal("the readers did not start")
	}
	return func() (used time.Duration, read int) {
		must(b, in.Close())
		if lines.Scan() {
			_, err := fmt.Sscan(lines.Text(), &used, &read)
			must(b, err)
		}
		must(b, cmd.Wait())
		for i := range crowd {
			must(b, remove(b.Context(), fmt.Sprintf("s%d", i)))
		}
		return used, read
	}
}

// consumers has consumers be made and no subscribers, and returns the file with the key
// of a user who may do everything.
func (x *bench) consumers(b *testing.B) (add func(context.Context, events.Subscriber) error, remove func(context.Context, string) error, seed string) {
	js, err := natsjs.New(connect(b, x.server))
	must(b, err)
	add = func(ctx context.Context, s events.Subscriber) error {
		_, err := js.CreateConsumer(ctx, "REPRISE", x.subscribers.Consumer(s))
		return err
	}
	remove = func(ctx context.Context, name string) error { return js.DeleteConsumer(ctx, "REPRISE", name) }
	return add, remove, filepath.Join(x.dir, "users", "server.nk")
}

// readAll is the process of the readers: it says when all are connected, reads
// until its input ends, and says what processor time it used meanwhile.
func readAll(at string) error {
	words := strings.Fields(at)
	every, err := strconv.Atoi(words[1])
	if err != nil {
		return err
	}
	var read atomic.Int64
	for _, name := range words[3:] {
		as := nats.UserInfo(name, "secret")
		if words[2] != "-" {
			if as, err = jetstream.WithSeed(words[2]); err != nil {
				return err
			}
		}
		nc, err := nats.Connect("nats://"+words[0], as)
		if err != nil {
			return err
		}
		js, err := natsjs.New(nc)
		if err != nil {
			return err
		}
		c, err := js.Consumer(context.Background(), "REPRISE", name)
		if err != nil {
			return err
		}
		n := 0
		if _, err := c.Consume(func(m natsjs.Msg) {
			read.Add(1)
			if n++; n%every == 0 {
				_ = m.Ack()
			}
		}); err != nil {
			return err
		}
	}
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	fmt.Println(after.Utime.Nano()+after.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano(), read.Load())
	return nil
}
