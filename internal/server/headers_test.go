package server

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
)

var allowedOrigins = []string{"https://app.example.com", "http://localhost:3000"}

// through sends a request through Headers to a handler that answers 418 with the
// method and the path.
func through(origins []string, method string, header http.Header) *http.Response {
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, r.Method+" "+r.URL.Path)
	})
	r := httptest.NewRequest(method, "/getToken", nil)
	maps.Copy(r.Header, header)
	w := httptest.NewRecorder()
	Headers(origins, next).ServeHTTP(w, r)
	return w.Result()
}

func from(origin string) http.Header { return http.Header{"Origin": {origin}} }

// preflight has the headers of a browser's preflight for a page of the origin.
func preflight(origin string) http.Header {
	return http.Header{
		"Origin":                         {origin},
		"Access-Control-Request-Method":  {"GET"},
		"Access-Control-Request-Headers": {"authorization,traceparent,x-correlation-id"},
	}
}

// always are the headers of every answer.
var always = map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

// wantHeaders checks that the answer has these headers, those of every answer, and
// no others.
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
	anyOrigin := map[string]string{"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": exposes}
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"} {
		for _, origin := range []string{"", "https://app.example.com", "null"} {
			header := http.Header{}
			if origin != "" {
				header = from(origin)
			}
			resp := through(nil, method, header)
			wantHeaders(t, method+" from "+origin, resp.Header, anyOrigin)
			if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 418 || string(body) != method+" /getToken" {
				t.Errorf("%s: got %d %q, want the handler's answer", method, resp.StatusCode, body)
			}
		}
	}
}

func TestAllowedOrigins(t *testing.T) {
	for _, origin := range allowedOrigins {
		wantHeaders(t, origin, through(allowedOrigins, "GET", from(origin)).Header, map[string]string{
			"Access-Control-Allow-Origin":   origin,
			"Access-Control-Expose-Headers": exposes,
			"Vary":                          "Origin",
		})
	}
}

// otherOrigins must not match, although a careless comparison might.
var otherOrigins = []string{
	"https://other.example.com", "https://App.example.com", "HTTPS://app.example.com", "http://app.example.com",
	"https://app.example.com:443", "https://app.example.com:8443", "https://app.example.com/", "https://app.example.com.",
	"https://app.example.com.evil.test", "https://evilapp.example.com", "https://app.example.com@evil.test", "https://sub.app.example.com",
	"https://example.com", "app.example.com", "https://app", "http://localhost", "http://localhost:30000", "http://localhost:3000 ",
	"null", "*", "", "https://app.example.com, http://localhost:3000", "https://app.example.com\r\nX-A: b", "file://",
}

func TestOtherOriginsGetNoCORSHeaders(t *testing.T) {
	want := map[string]string{"Vary": "Origin"} // so that a cache does not give them another answer
	for _, origin := range otherOrigins {
		wantHeaders(t, "GET from "+origin, through(allowedOrigins, "GET", from(origin)).Header, want)
		resp := through(allowedOrigins, "OPTIONS", preflight(origin))
		wantHeaders(t, "preflight from "+origin, resp.Header, want)
		if resp.StatusCode != http.StatusNoContent {
			t.Errorf("preflight from %q: got %d, want 204", origin, resp.StatusCode)
		}
	}
	wantHeaders(t, "no origin", through(allowedOrigins, "GET", nil).Header, want)
}

func TestPreflight(t *testing.T) {
	for _, test := range []struct {
		name    string
		origins []string
		origin  string
		extra   map[string]string
	}{
		{"any origin", nil, "https://app.example.com", map[string]string{"Access-Control-Allow-Origin": "*"}},
		{"a sandboxed page", nil, "null", map[string]string{"Access-Control-Allow-Origin": "*"}},
		{"one of the list", allowedOrigins, "https://app.example.com", map[string]string{"Access-Control-Allow-Origin": "https://app.example.com", "Vary": "Origin"}},
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
			resp := through(test.origins, "OPTIONS", header)
			wantHeaders(t, test.name+", for "+asked, resp.Header, want)
			if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 204 || len(body) > 0 {
				t.Errorf("%s, for %q: got %d %q, want 204 without a body", test.name, asked, resp.StatusCode, body)
			}
		}
	}
}

func TestOnlyOPTIONSIsAPreflight(t *testing.T) {
	for _, method := range []string{"GET", "POST", "options"} {
		if resp := through(nil, method, preflight("https://app.example.com")); resp.StatusCode != 418 {
			t.Errorf("%s: got %d, want the handler's 418", method, resp.StatusCode)
		}
	}
}

// routes is a handler as the program has it: an http.ServeMux behind ExactPaths.
func routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /getToken", hello)
	mux.Handle("/", http.NotFoundHandler())
	return Headers(nil, ExactPaths(http.NotFoundHandler(), mux))
}

func TestPathsAreComparedAsTheyAreSent(t *testing.T) {
	for _, test := range []struct {
		target string
		want   int
	}{
		{"/getToken", 200}, {"/getToken?access_token=hidden", 200}, {"http://x/getToken", 200}, {"/getToken?//", 200},
		{"//getToken", 404}, {"//getToken?access_token=hidden", 404}, {"/./getToken", 404}, {"/x/../getToken", 404},
		{"/getToken/", 404}, {"/getToken/.", 404}, {"//", 404}, {"/%67etToken", 404}, {"/getToken%2f", 404}, {"/%2fgetToken", 404},
		{"/x/%2e%2e/getToken", 404}, {"///hidden.example/getToken", 404}, {"http://hidden.example", 404}, {"http://x//getToken", 404},
		{"/", 404}, {"/gettoken", 404}, {"/hidden", 404}, {"*", 404}, {"mailto:hidden", 404},
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "CONNECT"} {
			synctest.Test(t, func(t *testing.T) {
				resp := exchange(t, start(t, routes()).mustDial(t), method+" "+test.target+" HTTP/1.1\r\nHost: x\r\n\r\n")
				known := test.want == 200 && method != "CONNECT" // whose target is a host
				switch {
				case resp.StatusCode == 400 && method == "CONNECT": // not even that
				case known && (method == "GET" || method == "HEAD") && resp.StatusCode != 200,
					known && method == "POST" && resp.StatusCode == 200,
					!known && resp.StatusCode != 404:
					t.Errorf("%s %s: got %v", method, test.target, resp.Status)
				}
				body, _ := io.ReadAll(resp.Body)
				if resp.Header.Get("Location") != "" || strings.Contains(string(body)+fmt.Sprint(resp.Header), "hidden") {
					t.Errorf("%s %s: the answer shows the request: %v %s", method, test.target, resp.Header, body)
				}
				wantContains(t, resp.Header.Get("Cache-Control"), "no-store")
			})
		}
	}
}

// Answers that net/http gives by itself have the headers for caches, too.
func TestAnswersWithoutAHandler(t *testing.T) {
	for _, test := range []struct {
		request string
		want    int
	}{
		{"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		{"GET * HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		{"GET /getToken HTTP/1.1\r\nHost: x\r\nExpect: nonsense\r\n\r\n", 417},
		{"GET /getToken HTTP/1.0\r\nExpect: nonsense\r\n\r\n", 417},
		{"GET /getToken HTTP/1.1\r\n\r\n", 400},
		{"GET /getToken HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: nonsense\r\n\r\n", 501},
		{"GET /getToken HTTP/3.0\r\nHost: x\r\n\r\n", 505},
		{"GET /getToken HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", 64<<10), 431},
	} {
		synctest.Test(t, func(t *testing.T) {
			resp := exchange(t, start(t, routes()).mustDial(t), test.request)
			if resp.StatusCode != test.want {
				t.Errorf("%.60q: got %v, want %d", test.request, resp.Status, test.want)
			}
			for header, want := range always {
				if got := resp.Header[header]; len(got) != 1 || got[0] != want {
					t.Errorf("%.60q: got %s: %q, want %q", test.request, header, got, want)
				}
			}
		})
	}
}

// A body is not read, so its connection ends: nothing in it may be taken for the
// next request.
func TestBodyEndsTheConnection(t *testing.T) {
	const hidden = "GET /getToken HTTP/1.1\r\nHost: hidden\r\n\r\n"
	for _, test := range []struct {
		name, request string
		answers       int
	}{
		{"no body", request + request, 2},
		{"a length", "POST /getToken HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n" + hidden, 1},
		{"chunks", "POST /getToken HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, 1},
		{"a body that does not come", "GET /getToken HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", 1},
		{"chunks in HTTP/1.0", "GET /getToken HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + hidden, 1},
		{"a length in HTTP/1.0", "POST /getToken HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n" + hidden, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			conn := start(t, routes()).mustDial(t)
			go io.WriteString(conn, test.request)
			all, _ := io.ReadAll(conn)
			if got := strings.Count(string(all), "Cache-Control: "); got != test.answers {
				t.Errorf("%s: %d answers, want %d:\n%s", test.name, got, test.answers, all)
			}
		})
	}
}
