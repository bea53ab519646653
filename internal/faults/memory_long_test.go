//go:build long

package faults

import (
	"fmt"
	"io"
	"strings"
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

// Headers that are never finished, on 5,000 connections, in the forms that take the
// most memory. They are closed, and callers are served again.
func TestUnfinishedHeaders(t *testing.T) {
	t.Parallel()
	var names strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&names, "%x:\r\n", i)
	}
	for _, test := range []struct{ name, lines string }{
		{"a long line", "X-A: " + strings.Repeat("a", 60<<10)},
		{"many lines", strings.Repeat("a:\r\n", 15<<10)},
		{"many names", names.String()},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			p := f.startReady()
			var sending sync.WaitGroup
			for i := range 5000 {
				size := []int{30 << 10, 60 << 10}[i%2] // within the limit, and beyond it
				conn := p.dial()
				conn.SetDeadline(time.Now().Add(time.Minute))
				sending.Go(func() {
					io.WriteString(conn, "GET /getToken HTTP/1.1\r\nHost: x\r\n"+test.lines[:size])
					io.Copy(io.Discard, conn) // until it is closed
				})
			}
			sending.Wait()
			p.wantPeak("5,000 connections with unfinished headers", 256)
			p.getToken(f.userToken()).want(t, "afterwards", 200)
			p.awaitDescriptors(50)
		})
	}
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
