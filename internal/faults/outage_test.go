//go:build long || soak

package faults

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

// outages are of either server; without a fault it refuses connections.
var outages = []struct {
	name     string
	fault    standintest.Fault
	statuses []int         // of callers who need a token of IMS
	back     time.Duration // until they are served again: a grant may take its 10 s first
}{
	{"connections refused", nil, []int{503}, 5 * time.Second},
	{"hangs", standintest.Hang(), []int{503, 504}, 11 * time.Second},
	{"status 500", standintest.Status(500), []int{502}, 5 * time.Second},
	{"drips", standintest.Drip(20 * time.Millisecond), []int{503, 504}, 11 * time.Second},
	{"32 MiB", standintest.Huge(32 << 20), []int{502}, 5 * time.Second},
}

// breakDown applies the fault, or with nil makes the server refuse connections.
func breakDown(s *standintest.Server, fault standintest.Fault) {
	if s.Misbehave(fault); fault == nil {
		s.Stop()
	}
}

// repair ends what breakDown began.
func repair(t *testing.T, s *standintest.Server) {
	t.Helper()
	s.Behave()
	if err := s.Restart(); err != nil {
		t.Error(err)
	}
}

// rotate makes a key current that the server has never seen.
func (f *fixture) rotate() {
	f.Tenant.Rotate() // to the next key, which was published before
	f.Tenant.Rotate()
}

// status reads a number from the process's status in /proc: VmRSS and VmHWM are the
// resident memory and its peak, in KiB.
func (p *process) status(field string) int {
	p.t.Helper()
	if runtime.GOOS != "linux" {
		return 0 // bounds on it hold then
	}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	_, after, _ := strings.Cut(string(text), field+":")
	n := 0
	if _, err := fmt.Sscan(after, &n); err != nil {
		p.t.Fatalf("/proc: no %s (%v) in:\n%s", field, err, text)
	}
	return n
}

// descriptors is how many files and sockets the process has open.
func (p *process) descriptors() int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid)) // none but on Linux
	return len(entries)
}

// unknownKeys returns tokens that are valid but for their kid, each with another.
// Their signatures are wrong too: without the key, no server can tell.
func (f *fixture) unknownKeys() func() string {
	_, rest, _ := strings.Cut(f.userToken(), ".")
	return func() string {
		header, _ := json.Marshal(standintest.Claims{"alg": "RS256", "typ": "JWT", "kid": rand.Text()})
		return base64.RawURLEncoding.EncodeToString(header) + "." + rest
	}
}
