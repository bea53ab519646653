package faults

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

// A redirect leads to a host whose key would verify a forgery. The server trusts
// that host's certificate, so only its not following keeps the forger out.
func TestRedirectToForger(t *testing.T) {
	t.Parallel()
	w, forger := newWorld(t), newWorld(t)
	forger.Tenant.Rotate() // a new key, that only the forger publishes
	forged := w.remember(w.Tenant.SignWith(forger.Tenant.NextKey(), nil, w.Tenant.Claims(audience)))
	both := filepath.Join(t.TempDir(), "both.pem")
	if err := os.WriteFile(both, slices.Concat(w.CACert(), forger.CACert()), 0o600); err != nil {
		t.Fatal(err)
	}
	s := w.command(t)
	s.cmd.Env = append(s.cmd.Env, "SSL_CERT_FILE="+both) // the last one counts
	elsewhere := "https://" + forger.Tenant.Domain() + "/.well-known/jwks.json"
	w.Tenant.Misbehave(standin.Redirect(elsewhere))
	s.start()
	s.addr = s.listening()

	s.ask(forged).want(t, "a forgery at the start", 503)
	w.Tenant.Behave()
	s.eventually("after the start", w.user(), 200, 15*time.Second)
	for _, code := range []int{301, 302, 307, 308} {
		w.Tenant.Misbehave(func(http.Handler) http.Handler { return http.RedirectHandler(elsewhere, code) })
		s.ask(forged).want(t, "a forgery later", 401)
		s.ask(w.user()).want(t, "an honest caller", 200)
	}
	if n := forger.Tenant.Requests(); n != 0 {
		t.Errorf("the forger was asked for keys %d times", n)
	}
	if n := w.Tenant.Requests(); n < 6 {
		t.Errorf("Auth0 was asked %d times, want 6: else nothing was tried here", n)
	}
}

// 10,000 random kids from 30 callers, some of whom leave midway, fetch no more keys
// than the spec allows, and disturb nobody whose key is known.
func TestFloodOfUnknownKeys(t *testing.T) {
	t.Parallel()
	const flood, callers = 10_000, 30
	w := newWorld(t)
	s := w.serve(t)
	s.ready()
	honest := s.load(t, 1, 10*time.Millisecond, oneOf(w.users(20)))
	time.Sleep(time.Second)
	usual := len(honest.sofar())

	began := time.Now()
	var flooding sync.WaitGroup
	stranger := w.strangers()
	for i := range callers {
		flooding.Go(func() { s.flood(newClient(t), flood/callers+1, i%3 == 0, stranger) })
	}
	flooding.Wait()
	took := time.Since(began)
	answers := honest.end()

	allowed := 1 + 5 + int(took/(30*time.Second)) // the first, a burst, one in 30 s
	if n := w.Tenant.Requests(); n > allowed || n < 2 {
		t.Errorf("%d random kids in %v made %d key fetches, want 2 to %d", flood, took, n, allowed)
	}
	wantAll(t, "callers with known keys", answers, 200)
	before, during := median(answers[:usual]), median(answers[usual:])
	if during > before+100*time.Millisecond {
		t.Errorf("callers with known keys waited %v, usually %v, want at most 100 ms more", during, before)
	}
	t.Logf("%v for %d kids: %d fetches, honest callers waited %v, usually %v", took, flood, w.Tenant.Requests(), during, before)
}

// sofar are the answers until now.
func (l *load) sofar() []answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.answers)
}

// flood sends n tokens that are refused. Who is hasty leaves after 50 ms.
func (s *server) flood(client *http.Client, n int, hasty bool, token func() string) {
	for range n {
		ctx, leave := s.t.Context(), context.CancelFunc(func() {})
		if hasty {
			ctx, leave = context.WithTimeout(ctx, 50*time.Millisecond)
		}
		a := s.get(ctx, client, "/getToken", token())
		leave()
		if a.err == nil || !hasty {
			a.want(s.t, "a random kid", 401)
		}
		if a.took > 3500*time.Millisecond {
			s.t.Errorf("a random kid waited %v, want 3 s at most", a.took)
		}
	}
}

// Tokens that would be refused anyway make no fetch, whatever their kid.
func TestHopelessTokensFetchNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve(t)
	s.ready()
	hour := time.Hour
	for what, change := range map[string]standin.Claims{
		"of another issuer":         {"iss": "https://other.auth0.test/"},
		"of another audience":       {"aud": "https://other.example"},
		"expired":                   {"exp": time.Now().Add(-hour).Unix()},
		"with no expiry":            {"exp": nil},
		"not valid yet":             {"nbf": time.Now().Add(hour).Unix()},
		"issued in the time ahead":  {"iat": time.Now().Add(hour).Unix()},
		"with claims of odd types":  {"exp": "tomorrow"},
		"with an issuer of its own": {"iss": []string{w.Tenant.Issuer()}},
	} {
		stranger := w.strangers(change)
		for range 100 {
			s.ask(stranger()).want(t, what, 401)
		}
	}
	s.ask(w.remember(w.Tenant.Sign(standin.Claims{"kid": nil}, w.Tenant.Claims(audience)))).want(t, "without a kid", 401)
	if n := w.Tenant.Requests(); n != 1 {
		t.Errorf("hopeless tokens made %d key fetches, want none but the first", n-1)
	}
}

// A token signed with a key published a moment ago works at once, and so it does
// for all who come with it at the same time.
func TestNewKeyWorksAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve(t)
	s.ready()
	w.Tenant.Rotate()
	w.Tenant.Rotate() // now the current key is one that the server has never seen
	tokens := w.users(10)
	answers := s.together(50, tokens)
	wantAll(t, "a new key", answers, 200)
	if n := w.Tenant.Requests(); n > 3 {
		t.Errorf("50 callers with one new key made %d fetches, want 1", n-1)
	}
	if longest := slowest(answers); longest > 3*time.Second {
		t.Errorf("a caller with a new key waited %v, want under 3 s", longest)
	}
	w.Tenant.Revoke()
	s.ask(w.strangers()()).want(t, "an unknown key", 401) // and the keys are fetched
	s.ask(w.user()).want(t, "the current key", 200)
	if strings.Contains(s.logged(), "level=WARN") {
		t.Errorf("a rotation is nothing to warn of: %s", s.logged())
	}
}
