package faults

import (
	"net"
	"strings"
	"testing"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

// 500 callers during a cold start are all answered, for one key fetch and one grant.
func TestColdStart(t *testing.T) {
	t.Parallel()
	testColdStart(t, 500)
}

func testColdStart(t *testing.T, callers int) {
	f := newFixture(t)
	f.Tenant.Misbehave(standintest.Delay(time.Second))
	f.IMS.Misbehave(standintest.Delay(4 * time.Second))
	p := f.start()
	results := p.getTokens(p.open(callers), f.userTokens(20))
	wantStatuses(t, "the callers", results, maxWait, 200)
	if keys, grants := f.Tenant.Requests(), f.IMS.Requests(); keys != 1 || grants != 1 {
		t.Errorf("%d key fetches and %d grants, want 1 and 1", keys, grants)
	}
}

// A port that is in use ends the program at once, with one line that names the setting,
// before anything has been announced.
func TestPortInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	f := newFixture(t)
	for _, test := range []struct{ command, name, value string }{
		{"serve", "PORT", port},
		{"serve", "METRICS_ADDR", addr},
		{"demo", "PORT", port},
		{"demo", "METRICS_ADDR", addr},
	} {
		output := f.wantStartError(test.command, test.name, test.name+"="+test.value)
		if strings.Count(output, "\n") != 1 {
			t.Errorf("%s: got %q, want one line", test.command, output)
		}
	}
}
