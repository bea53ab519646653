package faults

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

// freeAddr is outside of the range of outgoing connections, so that no other test
// takes its port meanwhile.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000)))
		if err == nil {
			listener.Close()
			return listener.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

// kill -9 under load: each answered request has its line in the log, whether that is
// a file or a pipe. A server started on the same port serves at once.
func TestKillLosesNoLogLine(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	addr := freeAddr(t)
	_, port, _ := strings.Cut(addr, ":")
	for _, output := range []string{"file", "pipe", "file"} {
		p := &process{addr: addr, log: new(standin.Log)}
		file, err := os.Create(filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if output == "file" {
			f.run(p, file, "PORT="+port)
		} else {
			f.run(p, p.log, "PORT="+port)
		}
		p.ready(20 * time.Second)
		var subjects, tokens []string
		for i := range 20 {
			subjects = append(subjects, fmt.Sprintf("auth0|client-%d-", i))
			tokens = append(tokens, f.tokenOf(subjects[i]))
		}
		load := p.busyLoad(tokens)
		load.await(500)
		p.kill()
		if output == "file" {
			file.Seek(0, io.SeekStart)
			io.Copy(p.log, file)
		}
		log := p.log.String()
		for i, c := range load.wait() {
			lines := strings.Count(log, subjects[i]) // one more if the last answer did not arrive
			if lines < c.answers[200] || lines > c.answers[200]+1 {
				t.Errorf("log to a %s: %d lines for %d answers", output, lines, c.answers[200])
			}
		}
	}
}

// SIGTERM while clients keep their connections busy or wait for IMS: each request on
// an accepted connection is answered, probes get 503, and the exit code is 0.
func TestShutdown(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		fault  standin.Fault // of IMS
		status []int
	}{
		{"busy", nil, []int{200}},
		{"IMS slow", standin.Delay(4 * time.Second), []int{200}},
		{"IMS hangs", standin.Hang(), []int{503, 504}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.IMS.Misbehave(test.fault)
			p := f.start()
			load := p.busyLoad(f.userTokens(20))
			if test.fault == nil {
				load.await(500)
			}
			time.Sleep(500 * time.Millisecond)
			p.terminate()
			signal := time.Now()
			probe := p.await("readiness during the shutdown", "/readyz", "", 503, time.Second)
			if code, ended := p.exit(10*time.Second - time.Since(signal)); !ended || code != 0 {
				t.Errorf("after %v: exit code %d, ended: %v; want 0 within 10s", time.Since(signal), code, ended)
			}
			took := time.Since(signal)
			answers := 0
			for _, c := range load.wait() {
				for _, status := range test.status {
					answers += c.answers[status]
					delete(c.answers, status)
				}
				if len(c.answers) > 0 {
					t.Errorf("answers by status %v, want only %v", c.answers, test.status)
				}
				for _, failure := range c.failures {
					// When the listener is closed, connections that it has not accepted are reset.
					after, reset := failure.dialed.Sub(signal), errors.Is(failure.err, syscall.ECONNRESET)
					if !failure.first || !reset || after < 0 {
						t.Errorf("a request on a connection dialed %v after SIGTERM, the first: %v, was not answered: %v", after, failure.first, failure.err)
					}
				}
			}
			if answers < 20 {
				t.Errorf("%d requests were answered, want 20 or more", answers)
			}
			t.Logf("ended %v after SIGTERM, probes got 503 after %v; %d requests answered", took, probe, answers)
		})
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.IMS.Misbehave(standin.Hang())
	p := f.start()
	load := p.busyLoad(f.userTokens(1)) // so that there is something to wait for
	time.Sleep(500 * time.Millisecond)
	p.terminate()
	time.Sleep(500 * time.Millisecond)
	p.terminate()
	if code, ended := p.exit(3 * time.Second); !ended || code != -1 {
		t.Errorf("exit code %d, ended: %v; want an end by the signal, at once", code, ended)
	}
	load.wait()
}

// A secret in the wrong variable, or in place of a command, is not shown.
func TestMisplacedSecrets(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	secrets := map[string]string{"client secret": f.IMS.ClientSecret(), "unknown secret": "kVHJ1yXNxUpvbSvR5RyCKvBuKtjrIoBJNvrCKd4gwFo7k6CNUjHMfDNp+/=="}
	running := make(chan bool, 16) // at most so many at once
	run := func(args []string, settings, environ []string) string {
		cmd, log := f.command(args, settings...), new(standin.Log)
		cmd.Stdout, cmd.Stderr, cmd.Env = log, log, append(cmd.Env, environ...)
		running <- true
		defer func() { <-running }()
		if err := cmd.Start(); err != nil {
			t.Error(err)
			return ""
		}
		stop := time.AfterFunc(2*time.Second, func() { cmd.Process.Kill() }) // serve, if it accepts the value
		defer stop.Stop()
		cmd.Wait()
		for what, secret := range secrets {
			if strings.Contains(log.String(), secret) {
				t.Errorf("%.60q with %d settings, %d variables: the output shows the %s:\n%s", args, len(settings), len(environ), what, log)
			}
		}
		return log.String()
	}
	var all sync.WaitGroup
	names := settingNames(run([]string{"check"}, nil, nil))
	if len(names) < 15 {
		t.Fatalf("check lists the settings %q, want all of them", names)
	}
	for _, secret := range secrets {
		for _, name := range names {
			settings := []string{name + "=" + secret}
			if name == "CLIENT_SECRET_FILE" {
				settings = append(settings, "CLIENT_SECRET=")
			}
			all.Go(func() { run([]string{"serve"}, settings, nil) })
			all.Go(func() { run([]string{"check"}, settings, nil) })
		}
		all.Go(func() { run(nil, []string{"PORT="}, []string{"PORT=" + secret}) })
		for _, args := range [][]string{{secret}, {"serve", secret}, {"check", secret}, {"check", "-", secret}, {"version", secret}, {"demo", secret}, {"demo", "-token-life", secret}} {
			all.Go(func() { run(args, nil, nil) })
		}
	}
	all.Wait()
}

// settingNames are the names without the prefix in the output of check.
func settingNames(output string) []string {
	var names []string
	for _, word := range strings.Fields(output) {
		if name, ok := strings.CutPrefix(word, "ITM_TOKEN_SERVER_"); ok {
			names = append(names, strings.Trim(name, ":,"))
		}
	}
	return names
}
