//go:build soak

package faults

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

var soak = flag.Duration("soak", 10*time.Minute, "how long to soak; the first tenth is compared with the last")

// Mixed load with faults that come and go: nothing grows from the first tenth of the
// time to the last, each 200 carries a valid token, and no valid user token is
// answered 401.
func TestSoak(t *testing.T) {
	f := newFixture(t)
	f.IMS.SetLife(10 * time.Second)
	idle := f.startReady().goroutines()

	p := f.startReady()
	var tokens atomic.Pointer[func() string]
	signIn := func() { // new user tokens, of the current key
		next := oneOf(f.userTokens(200)...)
		tokens.Store(&next)
	}
	signIn()
	valid := p.load(8, 20*time.Millisecond, func() string { return (*tokens.Load())() })
	random := p.load(2, 50*time.Millisecond, f.unknownKeys())
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go p.sendNonsense(ctx)
	go p.disconnect(ctx, oneOf(f.userToken()))
	go f.breakInTurn(ctx, signIn)

	first, last := p.sample(*soak)
	stop()
	results, others := valid.end(), random.end()
	wantAll(t, "valid tokens", results, maxWait, 200, 502, 503, 504)
	wantAll(t, "unknown kids", others, maxWait, 401, 503)
	served := len(slices.DeleteFunc(slices.Clone(results), func(r result) bool { return r.status != 200 }))
	if served < len(results)/2 {
		t.Errorf("%d of %d valid tokens were answered 200, want half of them", served, len(results))
	}
	t.Logf("%+v at first, %+v at last", first, last)
	if last.memory > first.memory+8<<10 || last.descriptors > first.descriptors+10 || last.threads > first.threads+3 {
		t.Errorf("%+v grew to %+v", first, last)
	}
	time.Sleep(15 * time.Second) // incomplete requests are closed after 10 s
	if n := p.goroutines(); n > idle+5 {
		t.Errorf("%d goroutines after the load, %d in a server without requests", n, idle)
	}
	t.Logf("%d answers 200 of %d, %d random kids, %d grants, %d key fetches", served, len(results), len(others), f.IMS.Requests(), f.Tenant.Requests())
}

// breakInTurn breaks IMS and Auth0 in turn: 10 s of each fault, which few iTwin
// tokens of 10 s outlast, and 5 s without. The first faults come again at the end,
// so that the first and the last minute are alike.
func (f *fixture) breakInTurn(ctx context.Context, signIn func()) {
	faults := append(standintest.Nonsense(),
		standintest.NamedFault{Name: "slow", Fault: standintest.Delay(2 * time.Second)},
		standintest.NamedFault{Name: "hangs up", Fault: standintest.HangUp()})
	faults = append(faults, outages...)
	period := max(1, int(*soak*9/10/(15*time.Second)))
	for n := 0; ; n++ {
		kind := n % period
		server := []*standintest.Server{&f.IMS.Server, &f.Tenant.Server}[kind%2]
		breakDown(server, faults[kind%len(faults)].Fault)
		if !sleep(ctx, 10*time.Second) {
			return
		}
		repair(f.t, server)
		switch n % 12 {
		case 5: // to a key that was published long ago
			f.Tenant.Rotate()
			signIn()
		case 11:
			f.Tenant.Revoke()
		}
		if !sleep(ctx, 5*time.Second) {
			return
		}
	}
}

// sendNonsense sends what no client of ours sends, and some of it incomplete.
func (p *process) sendNonsense(ctx context.Context) {
	texts := append(slices.Clone(nasty), "", "\r\n", "a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", strings.Repeat("a", 1<<20))
	for n := 0; sleep(ctx, 200*time.Millisecond); n++ {
		conn, err := p.dial()
		if err != nil {
			p.t.Error(err)
			continue
		}
		go fmt.Fprintf(conn, "GET /getToken HTTP/1.1\r\nHost: x\r\nX-B: %s\r\n", texts[n%len(texts)])
		time.AfterFunc(5*time.Second, func() { conn.Close() })
		p.get("/"+strings.Repeat("x", 50), "")
		p.getToken("not.a.token")
	}
}

// usage is what a process uses: the median of a span.
type usage struct{ memory, descriptors, threads int }

// sample returns the usage in the first and the last tenth of the time.
func (p *process) sample(span time.Duration) (first, last usage) {
	var memory, descriptors, threads []int
	for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		memory = append(memory, p.status("VmRSS"))
		descriptors = append(descriptors, p.descriptors())
		threads = append(threads, p.status("Threads"))
	}
	tenth := max(1, len(memory)/10)
	median := func(of []int, from int) int { return slices.Sorted(slices.Values(of[from : from+tenth]))[tenth/2] }
	end := len(memory) - tenth
	return usage{median(memory, 0), median(descriptors, 0), median(threads, 0)}, usage{median(memory, end), median(descriptors, end), median(threads, end)}
}

// goroutines ends the process with SIGQUIT and counts them in its output.
func (p *process) goroutines() int {
	p.t.Helper()
	p.signal(syscall.SIGQUIT)
	p.wantExit(2, 10*time.Second)
	_, dump, _ := strings.Cut(p.log.String(), "SIGQUIT: quit")
	return strings.Count(dump, "\ngoroutine ")
}
