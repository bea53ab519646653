//go:build long

package faults

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

// Tokens of 20 s, an IMS that takes 3 s, a minute of load: no caller waits for a
// renewal, and none gets a token with less than 40% of its life left, after a time
// without requests too.
func TestRenewal(t *testing.T) {
	t.Parallel()
	const life = 20 * time.Second
	f := newFixture(t)
	f.IMS.SetLife(life)
	f.IMS.Misbehave(standin.Delay(3 * time.Second))
	start := time.Now()
	p := f.startReady()
	tokens := f.userTokens(20)
	for _, phase := range []struct{ idle, load time.Duration }{{0, time.Minute}, {25 * time.Second, 5 * time.Second}} {
		time.Sleep(phase.idle)
		load := p.load(8, 20*time.Millisecond, oneOf(tokens))
		time.Sleep(phase.load)
		results := load.end()
		wantAll(t, "during renewals", results, 200)
		least := life
		for _, r := range results {
			least = min(least, expiry(t, r.body).Sub(r.end))
		}
		if took := slowest(results); took > 1500*time.Millisecond || least < life*4/10 {
			t.Errorf("after %v without requests: a caller waited %v, a token was valid for %v; want no wait, and 8s", phase.idle, took, least)
		}
		t.Logf("%d answers, the slowest after %v, tokens valid for %v or more", len(results), slowest(results), least)
	}
	// One at the start, and one for each half-life, up to a tenth of that early.
	if n, allowed := f.IMS.Requests(), 1+int(time.Since(start)/(life/2*9/10)); n > allowed || f.IMS.MostAtOnce() != 1 {
		t.Errorf("%d grants, %d at once; want at most %d, one at a time", n, f.IMS.MostAtOnce(), allowed)
	}
}

// expiry is the exp of the token in an answer: whole seconds, rounded down.
func expiry(t *testing.T, body string) time.Time {
	t.Helper()
	var claims struct{ Exp int64 }
	_, rest, _ := strings.Cut(body, ".")
	payload, _, _ := strings.Cut(rest, ".")
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err == nil {
		err = json.Unmarshal(text, &claims)
	}
	if err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	return time.Unix(claims.Exp, 0)
}

// A rotation during a flood of random kids is seen within 60 s.
func TestRotationDuringFlood(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.startReady()
	start := time.Now()
	known := p.load(2, 50*time.Millisecond, oneOf(f.userTokens(5)))
	flood := p.load(30, 50*time.Millisecond, f.unknownKeys())
	time.Sleep(8 * time.Second) // the burst is used up
	f.rotate()
	took := p.await("the new key", "/getToken", f.userToken(), 200, time.Minute)
	random := flood.end()
	wantAll(t, "random kids", random, 401)
	wantAll(t, "callers with a former key", known.end(), 200)
	if n, allowed := f.Tenant.Requests(), 1+5+1+int(time.Since(start)/(30*time.Second)); n > allowed {
		t.Errorf("%d key fetches, want %d at most", n, allowed)
	}
	t.Logf("seen after %v, %d random kids, %d key fetches", took, len(random), f.Tenant.Requests())
}

// 2,000 connections, all open at once, are served twice.
func TestTwoThousandConnections(t *testing.T) {
	t.Parallel()
	const n = 2000
	f := newFixture(t)
	p := f.startReady()
	request := fmt.Sprintf("GET /getToken HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", f.userToken())
	conns := make([]net.Conn, n)
	for i := range conns {
		conns[i] = p.dial()
		conns[i].SetDeadline(time.Now().Add(time.Minute))
	}
	for range 2 {
		var clients sync.WaitGroup
		for _, conn := range conns {
			clients.Go(func() {
				io.WriteString(conn, request)
				line, err := bufio.NewReader(conn).ReadString('\n')
				if !strings.HasPrefix(line, "HTTP/1.1 200") {
					t.Errorf("got %q (%v), want 200", line, err)
				}
			})
		}
		clients.Wait()
	}
	t.Logf("peak of the resident memory: %d KiB", p.status("VmHWM"))
	if open := p.descriptors(); open < n {
		t.Errorf("%d descriptors, want %d: the connections were not open at once", open, n)
	}
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
