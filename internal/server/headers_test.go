package server

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

var site = []string{"https://app.example.com", "http://localhost:3000"}

// through sends a request through the guard to a handler that answers 418 with
// the request's path, and returns the answer.
func through(origins []string, method, body string, header http.Header) *http.Response {
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, r.Method+" "+r.URL.Path)
	})
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, "/getToken", reader)
	maps.Copy(r.Header, header)
	w := httptest.NewRecorder()
	Headers(origins, next).ServeHTTP(w, r)
	return w.Result()
}

func from(origin string) http.Header { return http.Header{"Origin": {origin}} }

// preflight is what a browser asks ahead for a page of the origin.
func preflight(origin string) http.Header {
	return http.Header{
		"Origin":                         {origin},
		"Access-Control-Request-Method":  {"GET"},
		"Access-Control-Request-Headers": {"authorization,traceparent,x-correlation-id"},
	}
}

// always are the headers of every answer.
var always = map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

// wantHeaders wants these, those of every answer, and no others of CORS.
func wantHeaders(t *testing.T, name string, got http.Header, want map[string]string) {
	t.Helper()
	all := maps.Clone(want)
	maps.Copy(all, always)
	for header := range got {
		if all[header] == "" && header != "Content-Type" {
			t.Errorf("%s: got %s: %q, want none", name, header, got.Get(header))
		}
	}
	for header, value := range all {
		if values := got.Values(header); len(values) != 1 || values[0] != value {
			t.Errorf("%s: got %s: %q, want %q", name, header, values, value)
		}
	}
}

const exposes = "WWW-Authenticate, Retry-After"

func TestEveryAnswer(t *testing.T) {
	anyone := map[string]string{"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": exposes}
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"} {
		for _, origin := range []string{"", "https://app.example.com", "null"} {
			header := http.Header{}
			if origin != "" {
				header = from(origin)
			}
			resp := through(nil, method, "", header)
			wantHeaders(t, method+" from "+origin, resp.Header, anyone)
			if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 418 || string(body) != method+" /getToken" {
				t.Errorf("%s: got %d %q, want the handler's answer", method, resp.StatusCode, body)
			}
		}
	}
}

func TestOriginsThatMayRead(t *testing.T) {
	for _, origin := range site {
		wantHeaders(t, origin, through(site, "GET", "", from(origin)).Header, map[string]string{
			"Access-Control-Allow-Origin":   origin,
			"Access-Control-Expose-Headers": exposes,
			"Vary":                          "Origin",
		})
	}
}

// strangers are origins that a careless comparison would let in.
var strangers = []string{
	"https://other.example.com", "https://App.example.com", "HTTPS://app.example.com", "http://app.example.com",
	"https://app.example.com:443", "https://app.example.com:8443", "https://app.example.com/", "https://app.example.com.",
	"https://app.example.com.evil.test", "https://evilapp.example.com", "https://app.example.com@evil.test", "https://sub.app.example.com",
	"https://example.com", "app.example.com", "https://app", "http://localhost", "http://localhost:30000", "http://localhost:3000 ",
	"null", "*", "", "https://app.example.com, http://localhost:3000", "https://app.example.com\r\nX-A: b", "file://",
}

func TestStrangersGetNothing(t *testing.T) {
	want := map[string]string{"Vary": "Origin"} // or a cache would give them another's answer
	for _, origin := range strangers {
		wantHeaders(t, "GET from "+origin, through(site, "GET", "", from(origin)).Header, want)
		resp := through(site, "OPTIONS", "", preflight(origin))
		wantHeaders(t, "preflight from "+origin, resp.Header, want)
		if resp.StatusCode != http.StatusNoContent {
			t.Errorf("preflight from %q: got %d, want 204", origin, resp.StatusCode)
		}
	}
	wantHeaders(t, "no origin", through(site, "GET", "", nil).Header, want)
}

func TestPreflight(t *testing.T) {
	for _, test := range []struct {
		name    string
		origins []string
		origin  string
		extra   map[string]string
	}{
		{"anyone", nil, "https://app.example.com", map[string]string{"Access-Control-Allow-Origin": "*"}},
		{"a sandboxed page", nil, "null", map[string]string{"Access-Control-Allow-Origin": "*"}},
		{"one of the list", site, "https://app.example.com", map[string]string{"Access-Control-Allow-Origin": "https://app.example.com", "Vary": "Origin"}},
	} {
		want := map[string]string{
			"Access-Control-Allow-Methods":  "GET, HEAD",
			"Access-Control-Allow-Headers":  "Authorization, *",
			"Access-Control-Max-Age":        "7200",
			"Access-Control-Expose-Headers": exposes,
		}
		maps.Copy(want, test.extra)
		for _, asked := range []string{"GET", "POST", "x", "GET\r\nX-A: b"} {
			header := preflight(test.origin)
			header.Set("Access-Control-Request-Method", asked)
			resp := through(test.origins, "OPTIONS", "", header)
			wantHeaders(t, test.name+", for "+asked, resp.Header, want)
			if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 204 || len(body) > 0 {
				t.Errorf("%s, for %q: got %d %q, want 204 without a body", test.name, asked, resp.StatusCode, body)
			}
		}
	}
}

func TestOnlyOPTIONSIsAPreflight(t *testing.T) {
	for _, method := range []string{"GET", "POST", "options"} {
		if resp := through(nil, method, "", preflight("https://app.example.com")); resp.StatusCode != 418 {
			t.Errorf("%s: got %d, want the handler's 418", method, resp.StatusCode)
		}
	}
}

// A body is left unread, so its connection cannot be used again. Over sockets,
// since that is net/http's part.
func TestABodyEndsTheConnection(t *testing.T) {
	server := httptest.NewServer(Headers(nil, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })))
	defer server.Close()
	for _, test := range []struct {
		name string
		body io.Reader
		want bool
	}{
		{"none", nil, false},
		{"of a known length", strings.NewReader("x"), true},
		{"in chunks", io.MultiReader(strings.NewReader("x")), true},
	} {
		req, err := http.NewRequest("POST", server.URL, test.body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatalf("a body %s: %v", test.name, err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.Close != test.want {
			t.Errorf("a body %s: the connection ends: %v, want %v", test.name, resp.Close, test.want)
		}
	}
}
