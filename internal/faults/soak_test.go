//go:build soak

package faults

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

var soak = flag.Duration("soak", 10*time.Minute, "how long to soak")

// Mixed load with faults that come and go: nothing grows from the first tenth of the
// time to the last, each 200 carries a valid token, and no valid user token is
// answered 401.
func TestSoak(t *testing.T) {
	f := newFixture(t)
	f.IMS.SetLife(10 * time.Second)
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
	go p.sendNonsense(ctx)
	go f.breakInTurn(ctx, signIn)

	first, last := p.sample(*soak)
	stop()
	results, others := valid.end(), random.end()
	wantStatuses(t, "valid tokens", results, maxWait, 200, 502, 503, 504)
	wantStatuses(t, "unknown kids", others, maxWait, 401, 503)
	refused := slices.DeleteFunc(slices.Clone(results), func(r result) bool { return r.status == 200 })
	if len(refused) > len(results)/2 {
		t.Errorf("%d of %d valid tokens were refused, want less than half", len(refused), len(results))
	}
	if last.memory > first.memory+8<<10 || last.descriptors > first.descriptors+10 {
		t.Errorf("%+v grew to %+v", first, last)
	}
	t.Logf("%+v at first, %+v at last; %d of %d refused", first, last, len(refused), len(results))
}

// breakInTurn breaks IMS and Auth0 in turn: 10 s of each fault, which few iTwin
// tokens of 10 s outlast, and 5 s without. The first faults come again at the end,
// so that the first and the last minute are alike.
func (f *fixture) breakInTurn(ctx context.Context, signIn func()) {
	faults := []standintest.Fault{standintest.Delay(2 * time.Second), standintest.HangUp()}
	for _, nonsense := range standintest.Nonsense() {
		faults = append(faults, nonsense.Fault)
	}
	for _, outage := range outages {
		faults = append(faults, outage.fault)
	}
	servers := []*standintest.Server{&f.IMS.Server, &f.Tenant.Server}
	period := max(1, int(*soak*9/10/(15*time.Second)))
	for n := 0; ; n++ {
		kind := n % period
		server := servers[kind%2]
		breakDown(server, faults[kind%len(faults)])
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
	texts := append(slices.Clone(hostile), "", "\r\n", strings.Repeat("a", 1<<20))
	for n := 0; sleep(ctx, 200*time.Millisecond); n++ {
		conn, err := p.dial()
		if err != nil {
			p.t.Error(err)
			continue
		}
		go fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-A: %s\r\n", texts[n%len(texts)])
		time.AfterFunc(5*time.Second, func() { conn.Close() })
		p.get("/getToken", "not.a.token")
	}
}

// usage is what a process uses: the median of a span.
type usage struct{ memory, descriptors int }

// sample returns the usage in the first and the last tenth of the time.
func (p *process) sample(span time.Duration) (first, last usage) {
	var memory, descriptors []int
	for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		memory = append(memory, p.status("VmRSS"))
		descriptors = append(descriptors, p.descriptors())
	}
	median := func(from, to int) usage {
		middle := func(of []int) int { return slices.Sorted(slices.Values(of[from:to]))[(to-from)/2] }
		return usage{middle(memory), middle(descriptors)}
	}
	all := len(memory)
	tenth := max(1, all/10)
	return median(0, tenth), median(all-tenth, all)
}
