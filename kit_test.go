package main

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"itwin-token-server/internal/standin/standintest"
	"itwin-token-server/internal/telemetry"
)

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

// get requests an iTwin token for a user token.
func (s *testServer) get(userToken string, accept ...string) *httptest.ResponseRecorder {
	h := http.Header{"Authorization": {"Bearer " + userToken}, "Accept": accept}
	return s.request("GET", "/getToken", h)
}

// userToken returns an access token of a user.
func (s *testServer) userToken(change ...standintest.Claims) string {
	return s.Tenant.AccessToken(testAudience, change...)
}

func wantStatus(t testing.TB, test string, w *httptest.ResponseRecorder, want int) {
	t.Helper()
	if w.Code != want {
		t.Errorf("%s: status %d, want %d: %s", test, w.Code, want, w.Body)
	}
}

// wantHeader wants a header to be one of the values; empty for none.
func wantHeader(t testing.TB, test string, w http.ResponseWriter, name string, want ...string) {
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
