package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is what process pid has used of the processors since it began, user
// and system, all its threads, ended ones too, in nanoseconds.
func cpuTime(pid int) (time.Duration, error) {
	// Another process's CPU clock, as clock_getcpuclockid(3) makes it: the
	// inverted pid over CPUCLOCK_SCHED. /proc/PID/stat counts only ticks of 10 ms.
	clock := int32(^pid<<3 | 2)
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// status reads a number from /proc/PID/status: VmRSS and VmHWM in kB, or one
// thread's voluntary_ctxt_switches.
func status(file, field string) (int, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	_, value, _ := bytes.Cut(data, []byte("\n"+field+":"))
	value, _, _ = bytes.Cut(value, []byte("\n"))
	n, err := strconv.Atoi(string(bytes.TrimSpace(bytes.TrimSuffix(value, []byte(" kB")))))
	if err != nil {
		return 0, fmt.Errorf("%s in %s: %w", field, file, err)
	}
	return n, nil
}

// resident is the memory that process pid holds now, in MB.
func resident(pid int) (float64, error) {
	kb, err := status(fmt.Sprintf("/proc/%d/status", pid), "VmRSS")
	return float64(kb) / 1000 * 1.024, err
}

// peak is the most memory that process pid ever held, in MB.
func peak(pid int) (float64, error) {
	kb, err := status(fmt.Sprintf("/proc/%d/status", pid), "VmHWM")
	return float64(kb) / 1000 * 1.024, err
}

// waits counts how often process pid's living threads gave up a processor to
// wait for something: a request, a lock, a write.
func waits(pid int) (int, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0, err
	}
	total := 0
	for _, thread := range threads {
		n, err := status(thread, "voluntary_ctxt_switches")
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}
