//go:build long

package faults

import (
	"slices"
	"testing"
	"time"
)

// Auth0 is down at the start: callers get 503, and the server recovers by itself
// within 15 s of Auth0's return. Then a key is rotated while Auth0 is down again:
// callers with the new key get 503, and 200 within 35 s of its return. Callers with
// known keys are not affected.
func TestAuth0Down(t *testing.T) {
	t.Parallel()
	for _, outage := range outages {
		t.Run(outage.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			breakDown(&f.Tenant.Server, outage.fault)
			p := f.start()
			const clients, pause = 3, 50 * time.Millisecond
			unknownKey := f.unknownKeys()
			callers, others := p.load(clients, pause, f.userToken), p.load(clients, pause, unknownKey)
			time.Sleep(20 * time.Second)
			wantStatuses(t, "at the start", append(callers.end(), others.end()...), maxWait, 503)
			repair(t, &f.Tenant.Server)
			p.await("readiness", "/readyz", "", 200, 15*time.Second)

			time.Sleep(11 * time.Second) // so that an unknown kid causes a fetch again
			known := p.load(clients, pause, oneOf(f.userTokens(10)...))
			breakDown(&f.Tenant.Server, outage.fault)
			f.rotate()
			token := f.userToken()
			callers, others = p.load(clients, pause, oneOf(token)), p.load(clients, pause, unknownKey)
			time.Sleep(20 * time.Second)
			unknown := append(callers.end(), others.end()...)
			wantStatuses(t, "the new key and random kids", unknown, 3*time.Second+noWait, 503)
			repair(t, &f.Tenant.Server)
			p.await("the new key", "/getToken", token, 200, 35*time.Second)
			p.get("/getToken", unknownKey()).wantStatus(t, "a random kid after the return", 401)
			wantStatuses(t, "known keys", known.end(), noWait, 200)
			p.wantPeak(64)
		})
	}
}

// IMS fails for 30 s under load, while a token of 20 s is valid: callers are served until
// the end of its life, then get the status that fits the outage, and are served again
// soon after IMS is back.
func TestIMSDown(t *testing.T) {
	t.Parallel()
	for _, outage := range outages {
		t.Run(outage.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.IMS.SetLife(20 * time.Second)
			p := f.startReady()
			load := p.load(4, 50*time.Millisecond, oneOf(f.userTokens(10)...))
			time.Sleep(time.Second)
			breakDown(&f.IMS.Server, outage.fault)
			time.Sleep(30 * time.Second)
			repair(t, &f.IMS.Server)
			p.await("IMS is back", "/getToken", f.userToken(), 200, outage.back+time.Second)
			refused := slices.DeleteFunc(load.end(), func(r result) bool { return r.status == 200 })
			wantStatuses(t, "after the token's expiry", refused, maxWait, outage.statuses...)
			if failed := p.logLines("cannot fetch iTwin token"); failed > 31 {
				t.Errorf("%d failed grants in 30 s, want at most one a second", failed)
			}
			p.wantPeak(64)
		})
	}
}
