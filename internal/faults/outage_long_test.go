//go:build long

package faults

import (
	"net/http"
	"slices"
	"testing"
	"time"
)

// rotate makes a key current that the server has never seen.
func (f *fixture) rotate() {
	f.Tenant.Rotate() // to the next key, which was published before
	f.Tenant.Rotate()
}

// Auth0 is down at the start: callers get 503, and the server recovers by itself
// within 15 s of Auth0's return. Then a key is rotated while Auth0 is down again:
// callers with the new key get 503, and 200 within 35 s of its return. Callers with
// known keys are not affected.
func TestAuth0Down(t *testing.T) {
	t.Parallel()
	for _, outage := range outages {
		t.Run(outage.Name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			breakDown(&f.Tenant.Server, outage.Fault)
			p := f.start()
			const clients, pause = 3, 50 * time.Millisecond
			unknownKey := f.unknownKeys()
			callers, others := p.load(clients, pause, f.userToken), p.load(clients, pause, unknownKey)
			time.Sleep(20 * time.Second)
			wantAll(t, "at the start", append(callers.end(), others.end()...), maxWait, 503)
			time.Sleep(3 * time.Second) // so that the fetch that they brought forward fails too
			repair(t, &f.Tenant.Server)
			t.Logf("ready %v after Auth0's return", p.await("readiness", "/readyz", "", 200, 15*time.Second))

			known := p.load(clients, pause, oneOf(f.userTokens(10)...))
			time.Sleep(500 * time.Millisecond)
			breakDown(&f.Tenant.Server, outage.Fault)
			f.rotate()
			token := f.userToken()
			callers, others = p.load(clients, pause, oneOf(token)), p.load(clients, pause, unknownKey)
			time.Sleep(40 * time.Second) // longer than the limit on fetches for unknown kids remembers
			wantAll(t, "the new key and random kids", append(callers.end(), others.end()...), 3*time.Second+noWait, 503)
			repair(t, &f.Tenant.Server)
			t.Logf("the new key is accepted %v after Auth0's return", p.await("the new key", "/getToken", token, 200, 35*time.Second))
			p.getToken(unknownKey()).want(t, "a random kid after the return", 401)
			wantAll(t, "known keys", known.end(), noWait, 200)
			p.wantPeak(64)
		})
	}
}

// IMS fails under load while a token of 20 s is valid: callers are served until the
// last tenth of its life, then get the status that fits the outage, and are served
// again soon after IMS is back.
func TestIMSDown(t *testing.T) {
	t.Parallel()
	for _, outage := range outages {
		t.Run(outage.Name, func(t *testing.T) {
			t.Parallel()
			const life, down = 20 * time.Second, 30 * time.Second
			statuses, back := []int{503}, 5*time.Second
			switch outage.Name {
			case "hangs", "a byte at a time": // a grant in progress may take its 10 s
				statuses, back = []int{503, 504}, 11*time.Second
			case "status 500", "32 MiB":
				statuses = []int{502}
			}
			f := newFixture(t)
			f.IMS.SetLife(life)
			start := time.Now()
			p := f.startReady()
			load := p.load(4, 50*time.Millisecond, oneOf(f.userTokens(10)...))
			time.Sleep(time.Second)
			breakDown(&f.IMS.Server, outage.Fault)
			time.Sleep(down)
			returned := time.Now()
			repair(t, &f.IMS.Server)
			served := p.await("IMS is back", "/getToken", f.userToken(), 200, back+time.Second)
			time.Sleep(500 * time.Millisecond)

			refused := slices.DeleteFunc(load.end(), func(r result) bool { return r.status == http.StatusOK && r.took() < maxWait })
			wantAll(t, "after the token's expiry", refused, maxWait, statuses...)
			if first := refused[0].end.Sub(start); first < life-life/10 {
				t.Errorf("refused %v after the start, want the token to serve for %v", first, life-life/10)
			}
			if last := refused[len(refused)-1].start.Sub(returned); last > served {
				t.Errorf("refused a request %v after IMS's return, which served another after %v", last, served)
			}
			failed, most := p.logLines("cannot fetch iTwin token"), f.IMS.MostAtOnce()
			if failed > int(down/time.Second)+1 || most != 1 {
				t.Errorf("%d failed grants in %v, %d at once; want one a second at most, one at a time", failed, down, most)
			}
			t.Logf("%d failed grants, served %v after IMS's return", failed, served)
			p.wantPeak(64)
		})
	}
}
