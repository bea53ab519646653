package faults

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

// kill -9 under load: each answered request has its line in the log.
func TestKillLosesNoLogLine(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.startReady()
	loads := make([]*load, 20)
	subject := func(client int) string { return fmt.Sprintf("auth0|client-%d-", client) }
	for i := range loads {
		loads[i] = p.load(1, 0, oneOf(f.tokenOf(subject(i))))
	}
	for _, l := range loads {
		l.await(25)
	}
	p.kill()
	for i, l := range loads {
		results := l.end()
		answers := slices.IndexFunc(results, func(r result) bool { return r.err != nil })
		if answers < 0 { // it was not asking at that moment
			answers = len(results)
		}
		wantAll(t, "before the kill", results[:answers], maxWait, 200)
		wantAll(t, "after the kill", results[answers:], maxWait, 0)
		lines := strings.Count(p.log.String(), subject(i))
		if lines < answers || lines > answers+1 { // one more, if its answer was not sent
			t.Errorf("%d lines for %d answers", lines, answers)
		}
	}
}

// SIGTERM while clients keep their connections busy or wait for IMS: each request on
// an accepted connection is answered, probes get 503, and the exit code is 0.
func TestShutdown(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		fault  standintest.Fault // of IMS
		status []int
	}{
		{"busy", nil, []int{200}},
		{"IMS slow", standintest.Delay(4 * time.Second), []int{200}},
		{"IMS hangs", standintest.Hang(), []int{503, 504}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.IMS.Misbehave(test.fault)
			p := f.start()
			load := p.load(20, 0, oneOf(f.userTokens(20)...))
			time.Sleep(500 * time.Millisecond)
			if test.fault == nil {
				load.await(500)
			}
			signal := time.Now()
			p.signal(syscall.SIGTERM)
			p.await("readiness during the shutdown", "/readyz", "", 503, time.Second)
			p.wantExit(0, 10*time.Second-time.Since(signal))
			var answers []result
			for _, r := range load.end() {
				// When the listener is closed, connections that it has not accepted are reset.
				if !r.first || r.dialed.Before(signal) || !errors.Is(r.err, syscall.ECONNRESET) {
					answers = append(answers, r)
				}
			}
			wantAll(t, "requests on accepted connections", answers, maxWait, test.status...)
			if len(answers) < 20 {
				t.Errorf("%d requests were answered, want 20 or more", len(answers))
			}
		})
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.IMS.Misbehave(standintest.Hang())
	p := f.start()
	p.load(1, 0, f.userToken) // so that there is something to wait for
	for range 2 {
		time.Sleep(500 * time.Millisecond)
		p.signal(syscall.SIGTERM)
	}
	p.wantExit(-1, 3*time.Second)
}
