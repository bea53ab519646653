package main

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/standin/standintest"
	"itwin-token-server/internal/telemetry"
)

// maxWait is the longest that a request waits for one fetch.
const maxWait = 10 * time.Second

// A testServer is a service with its stand-ins, its log and its routes.
type testServer struct {
	t testing.TB
	*service
	*standintest.Standin
	log     *standintest.Log
	handler http.Handler
}

// newIdleServer returns a server that does not fetch keys and tokens until start.
func newIdleServer(t testing.TB, change func(*config)) *testServer {
	t.Helper()
	standin, log := standintest.New(t), new(standintest.Log)
	c := testConfig(standin)
	if change != nil {
		change(&c)
	}
	service := newService(c, standin.Transport(), telemetry.NewLog(log, "text", c.LogLevel))
	s := &testServer{t, service, standin, log, service.routes(nil)}
	t.Cleanup(func() { s.wantMetrics(`requests_total{status="500",reason="other"} 0`) })
	return s
}

// start makes the server fetch keys and tokens until the test ends.
func (s *testServer) start() {
	background(s.t, s.users.keys.Run)
	background(s.t, s.tokens.Run)
}

// newServer returns a server that fetches keys and tokens.
func newServer(t testing.TB, change func(*config)) *testServer {
	t.Helper()
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
	r := httptest.NewRequest(method, path, nil)
	r.Header = h
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	wantHeader(s.t, path, w, "Cache-Control", "no-store")
	wantHeader(s.t, path, w, "X-Content-Type-Options", "nosniff")
	return w
}

// get requests an iTwin token for a user token.
func (s *testServer) get(userToken string) *httptest.ResponseRecorder {
	return s.request("GET", "/getToken", http.Header{"Authorization": {"Bearer " + userToken}})
}

// getJSON is get with the answer as JSON.
func (s *testServer) getJSON(userToken string) *httptest.ResponseRecorder {
	return s.request("GET", "/getToken", http.Header{
		"Authorization": {"Bearer " + userToken}, "Accept": {"application/json"}})
}

// userToken returns an access token of a user.
func (s *testServer) userToken(change ...standintest.Claims) string {
	return s.Tenant.AccessToken(testAudience, change...)
}

func wantStatus(t testing.TB, name string, w *httptest.ResponseRecorder, want int) {
	t.Helper()
	if w.Code != want {
		t.Errorf("%s: status %d, want %d: %s", name, w.Code, want, w.Body)
	}
}

// wantHeader wants a header to be one of the values; empty for none.
func wantHeader(
	t testing.TB, test string, w *httptest.ResponseRecorder, name string, want ...string) {
	t.Helper()
	if got := w.Header().Get(name); !slices.Contains(want, got) {
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
