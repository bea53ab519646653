//go:build long

package faults

import (
	"slices"
	"testing"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

// A flood of random kids, of which some callers disconnect, causes no more key fetches
// than allowed, and a rotation during it is seen within 60 s. Callers with known keys
// wait for none of those, nor for the renewals of tokens that live 20 s.
func TestFloodOfUnknownKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.IMS.SetLife(20 * time.Second)
	f.IMS.Misbehave(standintest.Delay(3 * time.Second))
	p := f.startReady()
	start := time.Now()
	known := p.load(4, 20*time.Millisecond, oneOf(f.userTokens(20)...))
	flood := p.load(30, 50*time.Millisecond, f.unknownKeys())
	go p.disconnect(t.Context(), f.unknownKeys())
	time.Sleep(8 * time.Second) // the burst is used up
	f.rotate()
	took := p.await("the new key", "/getToken", f.userToken(), 200, time.Minute)
	random := slices.DeleteFunc(flood.end(), func(r result) bool {
		return r.status == 503 && r.took() >= 3*time.Second // on a busy machine, for a fetch that takes longer
	})
	wantAll(t, "random kids", random, maxWait, 401)
	wantAll(t, "callers with known keys", known.end(), noWait, 200)
	allowed := 1 + 5 + 1 + int(time.Since(start)/(30*time.Second)) // the first, a burst, then one in 30 s
	if n := f.Tenant.Requests(); n < 2 || n > allowed {
		t.Errorf("%d key fetches, want 2 to %d", n, allowed)
	}
	t.Logf("seen after %v, %d random kids, %d key fetches", took, len(random), f.Tenant.Requests())
}

// 2,000 callers at once are all answered, although fewer connections are open at once.
func TestTwoThousandCallers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.startReady()
	conns := p.open(2000)
	wantAll(t, "2,000 callers", p.together(conns, f.userTokens(1)), time.Minute, 200)
	for _, conn := range conns {
		conn.Close()
	}
	p.awaitDescriptors(50)
}

// awaitDescriptors waits until the process has closed its connections.
func (p *process) awaitDescriptors(most int) {
	p.t.Helper()
	for start := time.Now(); p.descriptors() > most; time.Sleep(100 * time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			p.t.Errorf("%d descriptors, want at most %d once the connections are closed", p.descriptors(), most)
			return
		}
	}
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
