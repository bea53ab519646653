//go:build long

package faults

import (
	"io"
	"sync"
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

// wantPeak checks the peak of the resident memory since the start.
func (p *process) wantPeak(what string, mebibytes int) {
	p.t.Helper()
	peak := p.status("VmHWM")
	p.t.Logf("%s: peak of the resident memory %d KiB", what, peak)
	if peak > mebibytes<<10 && !raceEnabled() {
		p.t.Errorf("%s: peak of the resident memory %d KiB, want at most %d MiB", what, peak, mebibytes)
	}
}

// 32 MiB in place of keys and tokens, again and again, are not kept.
func TestHugeAnswersTakeNoMemory(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.IMS.SetLife(4 * time.Second) // renewed often
	p := f.startReady()
	f.Tenant.Misbehave(standin.Huge(32 << 20))
	f.IMS.Misbehave(standin.Huge(32 << 20))
	known, unknown := p.load(1, 100*time.Millisecond, oneOf(f.userTokens(5))), p.load(1, 100*time.Millisecond, f.unknownKeys())
	time.Sleep(20 * time.Second)
	wantAll(t, "known keys", known.end(), 200, 502)
	wantAll(t, "unknown kids", unknown.end(), 503)
	if keys, grants := f.Tenant.Requests(), f.IMS.Requests(); keys < 5 || grants < 5 {
		t.Errorf("%d key fetches and %d grants, want 5 of each: too few to test anything", keys, grants)
	}
	p.wantPeak("32 MiB answers", 64)
}

// Callers are served while 300 connections send their headers a byte at a time.
func TestSlowHeaders(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.startReady()
	callers := p.load(4, 20*time.Millisecond, oneOf(f.userTokens(10)))
	var slow sync.WaitGroup
	for range 300 {
		conn := p.dial()
		slow.Go(func() {
			for err := error(nil); err == nil; _, err = io.WriteString(conn, "a") {
				time.Sleep(200 * time.Millisecond)
			}
		})
	}
	slow.Wait() // until they are closed
	results := callers.end()
	wantAll(t, "callers", results, 200)
	if took := slowest(results); took > 1500*time.Millisecond {
		t.Errorf("a caller waited %v, want no wait", took)
	}
	p.awaitDescriptors(50)
}
