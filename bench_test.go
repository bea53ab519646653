package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"

	"itwin-token-server/internal/standin/standintest"
	"itwin-token-server/internal/telemetry"
)

// manyTokens are tokens of as many users. Signing takes a millisecond each.
func manyTokens(s *standintest.Standin, n int) []string {
	tokens := make([]string, n)
	var signers sync.WaitGroup
	for signer := range 2 {
		signers.Go(func() {
			for i := signer; i < n; i += 2 {
				user := standintest.Claims{"sub": "auth0|" + strconv.Itoa(i)}
				tokens[i] = s.Tenant.AccessToken(testAudience, user)
			}
		})
	}
	signers.Wait()
	return tokens
}

// warm is a service that has its keys and its token, and a full set of checks.
func warm(t testing.TB, s *standintest.Standin) *service {
	c := testConfig(s)
	c.RequiredScopes = []string{"openid"}
	d := newService(c, s.Transport(), telemetry.NewLog(io.Discard, "text", slog.LevelInfo))
	background(t, d.users.keys.Run)
	background(t, d.tokens.Run)
	w := httptest.NewRecorder()
	if d.getToken(w, request(s.Tenant.AccessToken(testAudience))); w.Code != http.StatusOK {
		t.Fatal(w.Code, w.Body)
	}
	return d
}

// A sink is a ResponseWriter that costs next to nothing.
type sink struct{ header http.Header }

func (s sink) Header() http.Header               { return s.header }
func (s sink) Write(b []byte) (int, error)       { return len(b), nil }
func (s sink) WriteString(t string) (int, error) { return len(t), nil }
func (s sink) WriteHeader(int)                   {}

func request(token string) *http.Request {
	r := httptest.NewRequest("GET", "/getToken", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Accept", "*/*")
	return r
}

// distinct runs f with tokens of which none is seen twice by one service.
func distinct(b *testing.B, f func(s *service, routes http.Handler, token string)) {
	s := standintest.New(b)
	tokens := manyTokens(s, 2000)
	b.ReportAllocs()
	var d *service
	var routes http.Handler
	for i := 0; b.Loop(); i++ {
		if i%len(tokens) == 0 {
			b.StopTimer()
			d = warm(b, s)
			routes = d.routes(nil)
			b.StartTimer()
		}
		f(d, routes, tokens[i%len(tokens)])
	}
}

func BenchmarkVerifyDistinct(b *testing.B) {
	distinct(b, func(d *service, _ http.Handler, token string) {
		if _, err := d.users.verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	})
}

func BenchmarkHandlerDistinct(b *testing.B) {
	distinct(b, func(_ *service, routes http.Handler, token string) {
		routes.ServeHTTP(sink{http.Header{}}, request(token))
	})
}

func BenchmarkHandlerRepeated(b *testing.B) {
	s := standintest.New(b)
	d, r := warm(b, s).routes(nil), request(s.Tenant.AccessToken(testAudience))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		r := r.Clone(b.Context())
		for pb.Next() {
			d.ServeHTTP(sink{http.Header{}}, r)
		}
	})
}

// The hot path's allocations, with a margin over what they are: 123 and 3 a
// request. What adds one for each request shows here, not in production.
func TestHotPathAllocations(t *testing.T) {
	s := standintest.New(t)
	d := warm(t, s)
	routes := d.routes(nil)
	tokens := manyTokens(s, 120)
	next := 0
	distinct := testing.AllocsPerRun(100, func() {
		routes.ServeHTTP(sink{http.Header{}}, request(tokens[next]))
		next++
	})
	again := request(tokens[0])
	repeated := testing.AllocsPerRun(100, func() { routes.ServeHTTP(sink{http.Header{}}, again) })
	if distinct > 130 || repeated > 4 {
		t.Errorf("a distinct token costs %v allocations, a repeated one %v; want at most 130 and 4", distinct, repeated)
	}
	if verify := testing.AllocsPerRun(100, func() { d.users.verify(t.Context(), tokens[0]) }); verify > 1 { // the copy that is hashed
		t.Errorf("verifying a token again costs %v allocations, want 1", verify)
	}
}
