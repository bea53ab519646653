package faults

import (
	"context"
	"net/http"
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

// 500 callers during a cold start cost one key fetch and one grant; the first caller
// disconnects, which disturbs none of the others.
func TestColdStart(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Tenant.Misbehave(standin.Delay(time.Second))
	f.IMS.Misbehave(standin.Delay(2 * time.Second))
	tokens := f.userTokens(20)
	p := f.start()

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	first := make(chan result, 1)
	go func() { first <- p.get(ctx, http.DefaultClient, "/getToken", tokens[0]) }()
	time.Sleep(20 * time.Millisecond) // so that it is the first
	results := p.together(500, tokens)
	wantAll(t, "the callers", results, 200)
	if r := <-first; r.err == nil {
		t.Errorf("the first caller got %d after %v, want it to have disconnected", r.status, r.took())
	}
	if keys, grants := f.Tenant.Requests(), f.IMS.Requests(); keys != 1 || grants != 1 {
		t.Errorf("%d key fetches and %d grants, want 1 and 1", keys, grants)
	}
}

// Tokens of each kind that apps send, and what clients do wrong, at the log level
// that shows most.
func TestKindsOfTokens(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.startReady("LOG_LEVEL=debug")
	idToken := func(change standin.Claims) string { return f.record(f.Tenant.IDToken(appID, change)) }
	for _, test := range []struct {
		name, path, token string
		status            int
	}{
		{"ID token", "/getToken", idToken(nil), 200},
		{"access token", "/getToken", f.userToken(), 200},
		{"at+jwt", "/getToken", f.record(f.Tenant.ATJWT(audience)), 200},
		{"opaque token", "/getToken", f.record(f.Tenant.OpaqueToken()), 401},
		{"no token", "/getToken", "", 401},
		{"expired ID token", "/getToken", idToken(standin.Claims{"exp": time.Now().Add(-time.Minute).Unix()}), 401},
		{"e-mail address as sub", "/getToken", idToken(standin.Claims{"sub": "email|jane.doe@example.com"}), 200},
		{"token in the query", "/getToken?access_token=" + f.userToken(), "", 401},
		{"token in the path", "/getToken/" + f.userToken(), "", 404},
	} {
		p.get(t.Context(), http.DefaultClient, test.path, test.token).want(t, test.name, test.status)
	}
}

// Auth0 and IMS send nonsense from the start, then one after the other recovers.
// Later nonsense does not affect callers whose keys are known.
func TestNonsense(t *testing.T) {
	t.Parallel()
	for _, nonsense := range standin.Nonsense() {
		t.Run(nonsense.Name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.Tenant.Misbehave(nonsense.Fault)
			f.IMS.Misbehave(nonsense.Fault)
			token, unknownKey := f.userToken(), f.unknownKeys()
			p := f.start()
			p.getToken(token).want(t, "no keys", 503)
			p.getToken(unknownKey()).want(t, "no keys, unknown kid", 503)
			f.Tenant.Behave()
			p.await("Auth0 is back", "/getToken", token, 502, 15*time.Second)
			p.getToken(unknownKey()).want(t, "unknown kid", 401)
			f.IMS.Behave()
			p.await("IMS is back", "/getToken", token, 200, 5*time.Second)

			f.Tenant.Misbehave(nonsense.Fault)
			f.IMS.Misbehave(nonsense.Fault)
			before := f.Tenant.Requests()
			p.getToken(unknownKey()).want(t, "unknown kid, keys outdated", 503)
			if f.Tenant.Requests() == before {
				t.Error("an unknown kid caused no key fetch, so nothing was tested here")
			}
			for range 3 { // other users: no result is remembered
				p.getToken(f.userToken()).want(t, "known key", 200)
			}
			f.Tenant.Behave()
			p.await("Auth0 is back again", "/getToken", unknownKey(), 401, 5*time.Second)
			if most := f.IMS.MostAtOnce(); most != 1 {
				t.Errorf("%d grants at once, want 1", most)
			}
		})
	}
}
