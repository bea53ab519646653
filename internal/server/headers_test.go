package server

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// otherOrigins must not match https://app.example.com or http://localhost:3000,
// although a careless comparison might.
var otherOrigins = []string{
	"https://other.example.com", "https://App.example.com", "HTTPS://app.example.com", "http://app.example.com",
	"https://app.example.com:443", "https://app.example.com:8443", "https://app.example.com/", "https://app.example.com.",
	"https://app.example.com.evil.test", "https://evilapp.example.com", "https://app.example.com@evil.test", "https://sub.app.example.com",
	"https://example.com", "app.example.com", "https://app", "http://localhost", "http://localhost:30000", "http://localhost:3000 ",
	"null", "*", "", "https://app.example.com, http://localhost:3000", "https://app.example.com\r\nX-A: b", "file://",
}

func TestHeaders(t *testing.T) {
	const app = "https://app.example.com"
	allowed := []string{app, "http://localhost:3000"}
	always := http.Header{"Cache-Control": {"no-store"}, "X-Content-Type-Options": {"nosniff"}}
	vary := http.Header{"Vary": {"Origin"}} // for others too, so that a cache does not give them another answer
	cors := func(origin string) http.Header {
		return http.Header{"Access-Control-Allow-Origin": {origin}, "Access-Control-Expose-Headers": {"WWW-Authenticate, Retry-After"}}
	}
	preflight := http.Header{
		"Access-Control-Allow-Methods": {"GET, HEAD"}, "Access-Control-Allow-Headers": {"Authorization, *"}, "Access-Control-Max-Age": {"7200"},
	}
	check := func(origins []string, method, origin, asked string, status int, want ...http.Header) {
		t.Helper()
		handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
		r, w := httptest.NewRequest(method, "/getToken", nil), httptest.NewRecorder()
		for name, value := range map[string]string{"Origin": origin, "Access-Control-Request-Method": asked} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		Headers(origins, handler).ServeHTTP(w, r)
		all := maps.Clone(always)
		for _, headers := range want {
			maps.Copy(all, headers)
		}
		if w.Code != status || w.Body.Len() > 0 || !reflect.DeepEqual(w.Header(), all) {
			t.Errorf("%s from %q, asked for %q: got %d %v, want %d %v", method, origin, asked, w.Code, w.Header(), status, all)
		}
	}
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"} {
		for _, origin := range []string{"", app, "null"} {
			check(nil, method, origin, "", 418, cors("*"))
		}
	}
	for _, method := range []string{"GET", "POST", "options"} { // no preflight
		check(nil, method, app, "GET", 418, cors("*"))
	}
	for _, origin := range allowed {
		check(allowed, "GET", origin, "", 418, cors(origin), vary)
		check(allowed, "OPTIONS", origin, "GET", 204, cors(origin), vary, preflight)
	}
	for _, origin := range otherOrigins {
		check(allowed, "GET", origin, "", 418, vary)
		check(allowed, "OPTIONS", origin, "GET", 204, vary)
	}
	for _, asked := range []string{"GET", "POST", "x", "GET\r\nX-A: b"} {
		for _, origin := range []string{app, "null"} { // null: a sandboxed page
			check(nil, "OPTIONS", origin, asked, 204, cors("*"), preflight)
		}
	}
}

func TestPathsAreComparedAsTheyAreSent(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("GET /getToken", hello)
	mux.Handle("/", http.NotFoundHandler())
	handler := ExactPaths(http.NotFoundHandler(), mux)
	same := []string{"/getToken", "/getToken?access_token=hidden", "http://x/getToken", "/getToken?//"}
	for _, target := range append(same,
		"//getToken", "//getToken?access_token=hidden", "/./getToken", "/x/../getToken",
		"/getToken/", "/getToken/.", "//", "/%67etToken", "/getToken%2f", "/%2fgetToken",
		"/x/%2e%2e/getToken", "///hidden.example/getToken", "http://hidden.example", "http://x//getToken",
		"/", "/gettoken", "/hidden", "*", "mailto:hidden",
	) {
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "CONNECT"} {
			want := http.StatusNotFound
			switch {
			case slices.Contains(same, target) && (method == "GET" || method == "HEAD"):
				want = http.StatusOK
			case method == "CONNECT" && target[0] != '/':
				continue // its target is a host
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(method, target, nil))
			if w.Code != want || w.Header().Get("Location") != "" || strings.Contains(w.Body.String(), "hidden") {
				t.Errorf("%s %s: got %d %v %s, want %d", method, target, w.Code, w.Header(), w.Body, want)
			}
		}
	}
}

// Answers that net/http gives before any handler have the headers, too.
func TestAnswersWithoutAHandler(t *testing.T) {
	const host, end = " HTTP/1.1\r\nHost: x\r\n", "\r\n\r\n"
	header := func(size int) string { return "GET /" + host + "X-A: " + strings.Repeat("a", size) + end }
	for _, test := range []struct {
		request string
		want    int
	}{
		{"OPTIONS *" + host + "\r\n", 404},
		{"GET *" + host + "\r\n", 404},
		{"GET /" + host + "Expect: nonsense" + end, 417},
		{"GET / HTTP/1.0\r\nExpect: nonsense" + end, 417},
		{"GET / HTTP/1.1" + end, 400},
		{"GET /" + host + "Transfer-Encoding: nonsense" + end, 501},
		{"GET / HTTP/3.0\r\nHost: x" + end, 505},
		{header(31 << 10), 200},
		{header(33 << 10), 431},
		{header(1 << 20), 431},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, Headers(nil, ExactPaths(http.NotFoundHandler(), hello)))
			got := ask(r.mustDial(t), test.request)
			if got.status != test.want {
				t.Errorf("%.60q: got %d, want %d", test.request, got.status, test.want)
			}
			for name, want := range map[string]string{
				"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Access-Control-Allow-Origin": "*",
			} {
				if values := got.header[name]; len(values) != 1 || values[0] != want {
					t.Errorf("%.60q: got %s: %q, want %q", test.request, name, values, want)
				}
			}
		})
	}
}

// A body is not read, so its connection ends: nothing in it may be taken for the
// next request.
func TestBodyEndsTheConnection(t *testing.T) {
	const post, keep, chunked = "POST / HTTP/1.1\r\nHost: x\r\n", " HTTP/1.0\r\nConnection: keep-alive\r\n", "Transfer-Encoding: chunked\r\n"
	for _, test := range []struct {
		name, request string
		answers       int
	}{
		{"no body", request + request, 2},
		{"a length", post + "Content-Length: 40\r\n\r\n" + request, 1},
		{"chunks", post + chunked + "\r\n0\r\n\r\n" + request, 1},
		{"a body that does not come", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", 1},
		{"chunks in HTTP/1.0", "GET /" + keep + chunked + "\r\n" + request, 1},
		{"a length in HTTP/1.0", "POST /" + keep + "Content-Length: 5\r\n\r\n" + request, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			conn := start(t, hello).mustDial(t)
			go io.WriteString(conn, test.request)
			begun := time.Now()
			all, _ := io.ReadAll(conn)
			if got := strings.Count(string(all), "HTTP/1."); got != test.answers {
				t.Errorf("%s: %d answers, want %d:\n%s", test.name, got, test.answers, all)
			}
			// A body that does not come is waited for, but the answer is sent first.
			if took := time.Since(begun); test.answers == 1 && took > requestTimeout {
				t.Errorf("%s: the connection ended after %v, want at most %v", test.name, took, requestTimeout)
			}
		})
	}
}
