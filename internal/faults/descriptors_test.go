//go:build long || soak

package faults

import (
	"fmt"
	"os"
)

// descriptors is how many files and sockets the process has open.
func (s *server) descriptors() int {
	s.t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(entries)
}
