//go:build long || soak

package faults

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

// outages are of either server; without a fault it refuses connections.
var outages = []standintest.NamedFault{
	{Name: "connections refused"},
	{Name: "hangs", Fault: standintest.Hang()},
	{Name: "status 500", Fault: standintest.Status(500)},
	{Name: "a byte at a time", Fault: standintest.Drip(20 * time.Millisecond)},
	{Name: "32 MiB", Fault: standintest.Huge(32 << 20)},
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

// status reads a number from the process's status in /proc: VmRSS and VmHWM are the
// resident memory and its peak, in KiB.
func (p *process) status(field string) int {
	p.t.Helper()
	if runtime.GOOS != "linux" {
		return 0 // bounds on it hold then
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	_, after, _ := strings.Cut(string(text), field+":")
	words := strings.Fields(after)
	if len(words) == 0 {
		p.t.Fatalf("/proc: no %s (%v) in:\n%s", field, err, text)
	}
	n, err := strconv.Atoi(words[0])
	if err != nil {
		p.t.Fatal(err)
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

// disconnect sends requests, and disconnects before or during the answer, until ctx
// ends.
func (p *process) disconnect(ctx context.Context, token func() string) {
	for n := 0; sleep(ctx, 20*time.Millisecond); n++ {
		conn, err := p.dial()
		if err != nil {
			return
		}
		time.AfterFunc(time.Duration(n%20)*200*time.Microsecond, func() { conn.Close() })
		p.request(conn, "/getToken", token())
	}
}
