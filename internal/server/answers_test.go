package server

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
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
		{nil, "POST", app, "GET", 418, "*"},       // no preflight
		{nil, "OPTIONS", app, "", 418, "*"},       // no preflight either
		{nil, "OPTIONS", "null", "GET", 204, "*"}, // a sandboxed page
		{list, "GET", app, "", 418, app},
		{list, "OPTIONS", local, "GET", 204, local},
	}
	for _, origin := range []string{ // a careless comparison might accept these
		"", "*", "null", "https://app", "app.example.com", "https://App.example.com",
		"http://app.example.com", "https://app.example.com:443", "https://app.example.com/",
		"https://app.example.com.evil.test", "https://sub.app.example.com", "http://localhost:30000",
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

func TestPrefersJSON(t *testing.T) {
	for _, test := range []struct {
		name, accept string
		want         bool
	}{
		{"capitals and spaces", " Application/JSON ; charset=utf-8", true},
		{"a low quality", "application/json;q=0.001", true},
		{"jQuery", "application/json, text/javascript, */*; q=0.01", true},
		{"no header", "", false},
		{"fetch, URLSession, OkHttp", "*/*", false},
		{"axios, Angular", "application/json, text/plain, */*", false},
		{"text of lower quality", "text/plain;q=0.1, application/json", false},
		{"any text", "application/json, text/*;q=0.1", false},
		{"a browser", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false},
		{"quality 0", "application/json, application/json;q=0", false},
		{"quality 0.000", "application/json; charset=utf-8; q=0.000, */*", false},
		{"other types", "application/json5, application/problem+json, json, application/", false},
		{"two lines", "application/json\ntext/plain", false},
		{"quality 0 after a tab", "application/json ;\tq=0", false},
		{"quality 0 in the middle", "application/json;q=0;v=1", false},
		{"far behind", strings.Repeat("x/y,", 200) + "application/json", true},
	} {
		lines := strings.Split(test.accept, "\n")
		if got := PrefersJSON(http.Header{"Accept": lines}); got != test.want {
			t.Errorf("%s: PrefersJSON(%q) = %v, want %v", test.name, test.accept, got, test.want)
		}
	}
}

func FuzzPrefersJSON(f *testing.F) {
	f.Add("Application/JSON;\tq=0.0, text/*", "*/*")
	f.Fuzz(func(t *testing.T, line, other string) {
		got := PrefersJSON(http.Header{"Accept": {line, other}})
		listed := strings.Contains(strings.ToLower(withoutSpace.Replace(line+","+other)), typeJSON)
		if got && !listed {
			t.Errorf("PrefersJSON(%q, %q) = true", line, other)
		}
	})
}
