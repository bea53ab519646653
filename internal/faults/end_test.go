package faults

import (
	"fmt"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

// A signal ends the program without losing a request: probes get 503 while the port is
// still open, every request is answered, also one that waits for IMS, and its answer
// says that it ends the connection. So no client that keeps its connection busy meets
// one that was closed.
func TestShutdown(t *testing.T) {
	t.Parallel()
	hangup := syscall.SIGHUP
	if signal.Ignored(hangup) { // by nohup, for these tests and so for the program
		hangup = syscall.SIGTERM
	}
	for _, test := range []struct {
		name     string
		signal   syscall.Signal
		fault    standintest.Fault // of IMS
		statuses []int
	}{
		{"busy clients", syscall.SIGTERM, nil, []int{200}},
		{"IMS is slow", hangup, standintest.Delay(5 * time.Second), []int{200}},
		{"IMS hangs", syscall.SIGINT, standintest.Hang(), []int{503, 504}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.IMS.Misbehave(test.fault)
			p := f.start()
			load := p.load(20, 0, oneOf(f.userTokens(20)...))
			time.Sleep(500 * time.Millisecond) // so that all have sent a request
			if test.fault == nil {
				load.await(500)
			}
			signaled := time.Now()
			p.signal(test.signal)
			p.await("readiness during the shutdown", "/readyz", "", 503, time.Second)
			p.wantExit(0, 10*time.Second-time.Since(signaled))
			results := load.end()
			wantStatuses(t, "the clients", results, maxWait, test.statuses...)
			for _, r := range results {
				if r.start.Before(signaled) && r.end.After(signaled.Add(2*time.Second)) && !r.last {
					t.Errorf("an answer after the port was closed keeps its connection: %v", r.header)
				}
			}
		})
	}
}

// Under nohup the program is started with SIGHUP ignored, and then serves on.
func TestSIGHUPIsIgnoredUnderNohup(t *testing.T) {
	t.Parallel()
	nohup, err := exec.LookPath("nohup")
	if err != nil {
		t.Skip(err)
	}
	f := newFixture(t)
	cmd := f.command(t.Context(), nil)
	cmd.Path, cmd.Args = nohup, []string{"nohup", program}
	p := f.startCommand(cmd)
	p.awaitReady()
	p.signal(syscall.SIGHUP)
	time.Sleep(2 * time.Second) // a shutdown would have closed the port after one
	p.get("/getToken", f.userToken()).wantStatus(t, "after SIGHUP", 200)
	p.signal(syscall.SIGTERM)
	p.wantExit(0, 10*time.Second)
}

// After kill -9 under load, the log has a line for each answered request.
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
		requests := l.end()
		answers := slices.DeleteFunc(slices.Clone(requests), func(r result) bool { return r.err != nil })
		wantStatuses(t, "before the kill", answers, maxWait, 200)
		// A request whose answer was not sent any more may have its line too.
		lines := strings.Count(p.log.String(), subject(i))
		if lines < len(answers) || lines > len(requests) {
			t.Errorf("%d lines for %d answers to %d requests", lines, len(answers), len(requests))
		}
	}
}
