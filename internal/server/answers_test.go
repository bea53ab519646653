package server

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestHeaders(t *testing.T) {
	const app, local = "https://app.example.com", "http://localhost:3000"
	list := []string{app, local}
	type check struct {
		origins        []string
		method, origin string
		asked          string // Access-Control-Request-Method
		status         int
		allowed        string // Access-Control-Allow-Origin
	}
	checks := []check{
		{nil, "GET", "", "", 418, "*"},
		{nil, "PUT", app, "", 418, "*"},
		{nil, "POST", app, "GET", 418, "*"}, // no preflight
		{nil, "OPTIONS", app, "", 418, "*"}, // no preflight either
		{nil, "OPTIONS", app, "POST", 204, "*"},
		{nil, "OPTIONS", "null", "GET", 204, "*"}, // a sandboxed page
		{list, "GET", app, "", 418, app},
		{list, "HEAD", local, "", 418, local},
		{list, "OPTIONS", local, "GET", 204, local},
	}
	for _, origin := range []string{ // a careless comparison might accept these
		"", "*", "null", "https://app", "app.example.com", "https://example.com",
		"HTTPS://app.example.com", "https://App.example.com", "http://app.example.com",
		"https://app.example.com:443", "https://app.example.com/", "https://app.example.com.",
		"https://app.example.com.evil.test", "https://app.example.com@evil.test",
		"https://evilapp.example.com", "https://sub.app.example.com", "http://localhost",
		"http://localhost:30000", "http://localhost:3000 ", app + ", " + local,
	} {
		checks = append(checks,
			check{list, "GET", origin, "", 418, ""}, check{list, "OPTIONS", origin, "GET", 204, ""})
	}
	teapot := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(418) })
	for _, c := range checks {
		r, w := httptest.NewRequest(c.method, "/getToken", nil), httptest.NewRecorder()
		r.Header.Set("Origin", c.origin)
		r.Header.Set("Access-Control-Request-Method", c.asked)
		Headers(c.origins, teapot).ServeHTTP(w, r)
		want := http.Header{"Cache-Control": {"no-store"}, "X-Content-Type-Options": {"nosniff"}}
		if c.origins != nil { // also for others, so that a cache does not give them this answer
			want.Set("Vary", "Origin")
		}
		if c.allowed != "" {
			want.Set("Access-Control-Allow-Origin", c.allowed)
			want.Set("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After")
		}
		if c.allowed != "" && c.status == 204 {
			want.Set("Access-Control-Allow-Methods", "GET, HEAD")
			want.Set("Access-Control-Allow-Headers", "Authorization, *")
			want.Set("Access-Control-Max-Age", "7200")
		}
		if w.Code != c.status || w.Body.Len() > 0 || !maps.EqualFunc(w.Header(), want, slices.Equal) {
			t.Errorf("%+v: got %d %v, want %v", c, w.Code, w.Header(), want)
		}
	}
}

func TestPathsAreComparedAsTheyAreSent(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/getToken", hello)
	mux.Handle("/", http.NotFoundHandler())
	handler := ExactPaths(http.NotFoundHandler(), mux)
	for want, targets := range map[int][]string{
		200: {"/getToken", "/getToken?access_token=hidden", "http://x/getToken", "/getToken?//"},
		404: {
			"//getToken", "//getToken?access_token=hidden", "/./getToken", "/x/../getToken",
			"/getToken/", "/getToken/.", "//", "/%67etToken", "/getToken%2f", "/%2fgetToken",
			"/x/%2e%2e/getToken", "///hidden.example/getToken", "http://hidden.example",
			"http://x//getToken", "/", "/gettoken", "/hidden", "*", "mailto:hidden",
		},
	} {
		for _, target := range targets {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
			shown := strings.Contains(w.Body.String(), "hidden") || w.Header().Get("Location") != ""
			if w.Code != want || shown {
				t.Errorf("GET %s: got %d %v %s, want %d", target, w.Code, w.Header(), w.Body, want)
			}
		}
	}
}

// A body is not read, so its connection ends: nothing in it may be taken for the
// next request.
func TestBodyEndsTheConnection(t *testing.T) {
	const (
		post    = "POST / HTTP/1.1\r\nHost: x\r\n"
		keep    = " HTTP/1.0\r\nConnection: keep-alive\r\n"
		chunked = "Transfer-Encoding: chunked\r\n"
	)
	for _, test := range []struct {
		name, sent string
		want       int // answers
	}{
		{"no body", request + request, 2},
		{"a length", post + "Content-Length: 40\r\n\r\n" + request, 1},
		{"chunks", post + chunked + "\r\n0\r\n\r\n" + request, 1},
		{"a body that does not come", post + "Content-Length: 9\r\n\r\n", 1},
		{"chunks in HTTP/1.0", "GET /" + keep + chunked + "\r\n" + request, 1},
		{"a length in HTTP/1.0", "POST /" + keep + "Content-Length: 5\r\n\r\n" + request, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			conn := startServer(t, hello, nil).dial(t)
			go io.WriteString(conn, test.sent)
			begin := time.Now()
			all, _ := io.ReadAll(conn)
			if got := strings.Count(string(all), "HTTP/1."); got != test.want {
				t.Errorf("%s: %d answers, want %d:\n%s", test.name, got, test.want, all)
			}
			if took := time.Since(begin); test.want == 1 && took > requestTimeout {
				t.Errorf("%s: the connection ended after %v, want 30s at most", test.name, took)
			}
		})
	}
}

func TestPrefersJSON(t *testing.T) {
	for _, test := range []struct {
		name, accept string
		want         bool
	}{
		{"JSON", "application/json", true},
		{"capitals", "Application/JSON", true},
		{"a parameter", "application/json; charset=utf-8", true},
		{"a quality", "application/json;q=0.5", true},
		{"a low quality", " application/json ; Q=0.001", true},
		{"jQuery", "application/json, text/javascript, */*; q=0.01", true},

		{"no header", "", false},
		{"fetch, URLSession, OkHttp", "*/*", false},
		{"axios, Angular", "application/json, text/plain, */*", false},
		{"text first", "text/plain, application/json", false},
		{"text of lower quality", "application/json, text/plain;q=0.1", false},
		{"any text", "text/*;q=0.1, application/json", false},
		{"a browser", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false},
		{"quality 0", "application/json;q=0", false},
		{"quality 0 and none", "application/json;q=0, application/json", false},
		{"quality 0.000", "application/json; charset=utf-8; q=0.000, */*", false},
		{"other types", "application/json5, application/problem+json, json, application/", false},
		{"far behind", strings.Repeat(",", 500) + "application/json", false},
		{"in a parameter", "text/html;a=application/json", false},
	} {
		if got := PrefersJSON(http.Header{"Accept": {test.accept}}); got != test.want {
			t.Errorf("%s: PrefersJSON(%q) = %v, want %v", test.name, test.accept, got, test.want)
		}
	}
	if !PrefersJSON(http.Header{"Accept": {"text/html", "application/json"}}) {
		t.Error("PrefersJSON of two lines, the second with JSON = false, want true")
	}
	if PrefersJSON(http.Header{"Accept": {"application/json", "text/plain"}}) {
		t.Error("PrefersJSON of two lines, the second with text = true, want false")
	}
}

// JSON is only for those who name it, and never for those who name text.
func FuzzPrefersJSON(f *testing.F) {
	for _, seed := range []string{"", "*/*", "application/json", "application/json;q=0, text/plain"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		named := strings.Contains(strings.ToLower(accept), "application")
		if PrefersJSON(http.Header{"Accept": {accept}}) && !named {
			t.Errorf("PrefersJSON(%q) = true, want false", accept)
		}
		if PrefersJSON(http.Header{"Accept": {"text/plain", accept}}) {
			t.Errorf("PrefersJSON(text/plain and %q) = true, want false", accept)
		}
	})
}
