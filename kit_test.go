package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"itwin-token-server/internal/problem"
	"itwin-token-server/internal/standin/standintest"
	"itwin-token-server/internal/telemetry"
)

const (
	testAudience = "http://tokenserver.sample.bentley.com"
	testClient   = "an-application-of-the-tenant"
)

// testConfig is what a user of the stand-ins would set.
func testConfig(s *standintest.Standin) config {
	return config{
		ClientID: s.IMS.ClientID(), ClientSecret: newSecret(s.IMS.ClientSecret()),
		Domain: s.Tenant.Domain(), Audiences: []string{testAudience, testClient},
		Authority: s.IMS.URL(), Scope: "itwin-platform",
	}
}

// background runs a function until the test ends.
func background(t testing.TB, run func(context.Context)) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
}

// must is for what cannot fail.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A testServer is a service with its stand-ins, the text of its log and its routes.
type testServer struct {
	t testing.TB
	*service
	*standintest.Standin
	logged  *standintest.Log
	handler http.Handler
}

// newIdleServer returns a server that does not fetch keys and tokens until start.
func newIdleServer(t testing.TB, change func(*config)) *testServer {
	standin, logged := standintest.New(t), new(standintest.Log)
	c := testConfig(standin)
	if change != nil {
		change(&c)
	}
	service := newService(c, standin.Transport(), telemetry.NewLog(logged, "text", c.LogLevel))
	s := &testServer{t, service, standin, logged, service.routes(nil)}
	// Every reason is in the table of problems. One that is not is counted as "other".
	own := *s // a fuzz test changes the t of s
	t.Cleanup(func() { own.wantMetrics(`requests_total{status="500",reason="other"} 0`) })
	return s
}

// start makes the server fetch keys and tokens until the test ends.
func (s *testServer) start() {
	background(s.t, s.users.keys.Run)
	background(s.t, s.tokens.Run)
}

// newServer returns a server that fetches keys and tokens.
func newServer(t testing.TB, change func(*config)) *testServer {
	s := newIdleServer(t, change)
	s.start()
	return s
}

// testServing runs a test with a new server in a bubble, where time is the test's own.
func testServing(t *testing.T, change func(*config), test func(t *testing.T, s *testServer)) {
	synctest.Test(t, func(t *testing.T) { test(t, newServer(t, change)) })
}

// request sends a request to the routes. Every answer must have some headers.
func (s *testServer) request(method, path string, h http.Header) *httptest.ResponseRecorder {
	r, w := httptest.NewRequest(method, path, nil), httptest.NewRecorder()
	r.Header = h
	s.handler.ServeHTTP(w, r)
	wantHeader(s.t, path, w, "Cache-Control", "no-store")
	wantHeader(s.t, path, w, "X-Content-Type-Options", "nosniff")
	return w
}

// newRequest returns a request for an iTwin token, to be served without the checks of request.
func newRequest(userToken string) *http.Request {
	r := httptest.NewRequest("GET", "/getToken", nil)
	r.Header = http.Header{"Authorization": {"Bearer " + userToken}, "Accept": {"*/*"}}
	return r
}

// get requests an iTwin token for a user token.
func (s *testServer) get(userToken string, accept ...string) *httptest.ResponseRecorder {
	h := http.Header{"Authorization": {"Bearer " + userToken}, "Accept": accept}
	return s.request("GET", "/getToken", h)
}

// userToken returns an access token of a user.
func (s *testServer) userToken(change ...standintest.Claims) string {
	return s.Tenant.AccessToken(testAudience, change...)
}

// verify verifies a token and returns the problem, nil if there is none.
func (s *testServer) verify(token string) *problem.Problem {
	_, err := s.users.verify(context.Background(), token)
	p, _ := errors.AsType[*problem.Problem](err)
	if err != nil && !slices.Contains(problem.All(), p) {
		s.t.Errorf("verify returns %v, which is not in the table of problems", err)
	}
	return p
}

func wantStatus(t testing.TB, test string, w *httptest.ResponseRecorder, want int) {
	t.Helper()
	if w.Code != want {
		t.Errorf("%s: status %d, want %d: %s", test, w.Code, want, w.Body)
	}
}

// wantHeader wants a header to have the value; empty for none.
func wantHeader(t testing.TB, test string, w http.ResponseWriter, name, want string) {
	t.Helper()
	if got := w.Header().Get(name); got != want {
		t.Errorf("%s: %s is %q, want %q", test, name, got, want)
	}
}

// wantMetrics wants lines in the metrics.
func (s *testServer) wantMetrics(lines ...string) {
	s.t.Helper()
	w := httptest.NewRecorder()
	s.observer.ServeHTTP(w, nil)
	for _, line := range lines {
		if !strings.Contains(w.Body.String(), "\nitwin_token_server_"+line+"\n") {
			s.t.Errorf("the metrics lack %s", line)
		}
	}
}
