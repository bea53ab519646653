//go:build long

package faults

import (
	"slices"
	"testing"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

// A flood of random kids causes at most one key fetch in 10 s, and a rotation during it
// is seen within 15 s. Callers with known keys wait for none of those, nor for the
// renewals of tokens that live 20 s.
func TestFloodOfUnknownKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.IMS.SetLife(20 * time.Second)
	f.IMS.Misbehave(standintest.Delay(3 * time.Second))
	p := f.startReady()
	start := time.Now()
	known := p.load(4, 20*time.Millisecond, oneOf(f.userTokens(20)...))
	flood := p.load(30, 50*time.Millisecond, f.unknownKeys())
	time.Sleep(30 * time.Second)
	f.rotate()
	p.await("the new key", "/getToken", f.userToken(), 200, 15*time.Second)
	random := slices.DeleteFunc(flood.end(), func(r result) bool {
		return r.status == 503 && r.took() >= 3*time.Second // a fetch was slow: the machine is busy
	})
	wantStatuses(t, "random kids", random, maxWait, 401)
	wantStatuses(t, "callers with known keys", known.end(), noWait, 200)
	allowed := 2 + int(time.Since(start)/(10*time.Second)) // one at the start, one since then
	if n := f.Tenant.Requests(); n < 4 || n > allowed {
		t.Errorf("%d key fetches, want 4 to %d", n, allowed)
	}
}

// 2,000 are all answered too, although at most 1,000 connections are open.
func TestColdStartWithTwoThousandCallers(t *testing.T) {
	t.Parallel()
	testColdStart(t, 2000)
}

// wantPeak checks the peak of the resident memory since the start.
func (p *process) wantPeak(mebibytes int) {
	p.t.Helper()
	peak := p.status("VmHWM") >> 10
	p.t.Logf("peak of the resident memory: %d MiB", peak)
	if peak > mebibytes && !raceEnabled() {
		p.t.Errorf("peak of the resident memory: %d MiB, want at most %d", peak, mebibytes)
	}
}
