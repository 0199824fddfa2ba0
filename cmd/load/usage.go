package load

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Processes are programs by the names to report them under.
type Processes map[string]int

// Ended says which of them does not run any more.
func (p Processes) Ended() error {
	_, err := sum(p, cpuOf)
	return err
}

// tick is the unit of CPU time in /proc, the same on every Linux.
const tick = 10 * time.Millisecond

// cpuOf is the user and system time that a process has taken, and the children
// that it has waited for. What children took is known to a tick, which is too coarse
// for the process itself: twenty pods take its nodes less than one.
func cpuOf(pid int) (time.Duration, error) {
	var own unix.Timespec
	if err := unix.ClockGettime(cpuClock(pid), &own); errors.Is(err, unix.EINVAL) {
		return 0, fmt.Errorf("process %d: %w", pid, fs.ErrNotExist)
	} else if err != nil {
		return 0, fmt.Errorf("the CPU clock of process %d: %w", pid, err)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name of the program comes second, in parentheses, and may hold anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const cutime, cstime = 13, 14 // counted from the state, which is the third
	if len(fields) <= cstime {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields after the name", pid, len(fields))
	}
	var ticks time.Duration
	for _, field := range fields[cutime : cstime+1] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		ticks += time.Duration(n)
	}
	return time.Duration(own.Nano()) + ticks*tick, nil
}

// cpuClock is the clock of all CPU time of a process, as clock_getcpuclockid(3) makes it.
func cpuClock(pid int) int32 {
	const sched = 2 // CPUCLOCK_SCHED of the kernel: what ran, to the nanosecond
	return int32(^pid<<3 | sched)
}

// statm is the memory that a process holds in RAM, in bytes, and how much of it is of files:
// its program, and what it maps.
func statm(pid int) (resident, shared int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, 0, err
	}
	var size int64
	if _, err := fmt.Sscan(string(text), &size, &resident, &shared); err != nil {
		return 0, 0, fmt.Errorf("/proc/%d/statm: %w", pid, err)
	}
	page := int64(os.Getpagesize())
	return resident * page, shared * page, nil
}

// sum adds what one says of each process.
func sum[N time.Duration | int64](p Processes, one func(pid int) (N, error)) (total N, err error) {
	for _, name := range slices.Sorted(maps.Keys(p)) {
		n, err := one(p[name])
		if errors.Is(err, fs.ErrNotExist) {
			return 0, fmt.Errorf("%s (process %d) does not run any more", name, p[name])
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		total += n
	}
	return total, nil
}

// each is what each process has taken.
func each(p Processes) map[string]time.Duration {
	out := map[string]time.Duration{}
	for name, pid := range p {
		out[name], _ = cpuOf(pid)
	}
	return out
}

// ownCPU is what this process has taken.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// stored is how much of the disk the files below some directories take.
func stored(dirs []string) (total int64, err error) {
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				var info fs.FileInfo
				if info, err = d.Info(); err == nil {
					total += info.Sys().(*syscall.Stat_t).Blocks * 512
				}
			}
			if errors.Is(err, fs.ErrNotExist) { // it went while we looked
				return nil
			}
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("cannot measure what is stored: %w", err)
		}
	}
	return total, nil
}

// machineLoad is how many programs wanted a processor in the last minute.
func machineLoad() float64 {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	n, _ := strconv.ParseFloat(first, 64)
	return n
}

// memory follows how much the processes of a target hold.
type memory struct {
	processes Processes
	mu        sync.Mutex
	held      held
}

// held is the most that was held, what is held now, and the most that is no file's, in bytes.
type held struct{ peak, now, anonymous int64 }

// follow looks until ctx ends.
func (m *memory) follow(ctx context.Context) {
	for every := time.NewTicker(200 * time.Millisecond); ; {
		m.look()
		select {
		case <-every.C:
		case <-ctx.Done():
			every.Stop()
			return
		}
	}
}

// look returns what was and is held.
func (m *memory) look() held {
	var anonymous int64
	resident, err := sum(m.processes, func(pid int) (int64, error) {
		resident, shared, err := statm(pid)
		anonymous += resident - shared
		return resident, err
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.held = held{peak: max(m.held.peak, resident), now: resident, anonymous: max(m.held.anonymous, anonymous)}
	}
	return m.held
}

// Kill ends a process at once, and without a word, as a machine ends that loses
// its power.
func Kill(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("cannot kill process %d: %w", pid, err)
	}
	return nil
}
