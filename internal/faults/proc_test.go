package faults

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// memory is the process's resident set, in bytes.
func (s *server) memory() int { return s.status("VmRSS:") << 10 }

// status reads a number out of the process's status in /proc.
func (s *server) status(field string) int {
	s.t.Helper()
	if runtime.GOOS != "linux" {
		return 0 // nothing to read; what else a test asserts still counts
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	_, after, found := strings.Cut(string(text), field)
	if words := strings.Fields(after); found && len(words) > 0 {
		n, err := strconv.Atoi(words[0])
		if err == nil {
			return n
		}
	}
	s.t.Fatalf("/proc: want a number after %s (%v) in:\n%s", field, err, text)
	return 0
}
