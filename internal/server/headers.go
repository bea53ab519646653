package server

import (
	"bytes"
	"net/http"
	"path"
	"slices"
)

// Header values that never change are made once, not for each answer.
var (
	noStore       = []string{"no-store"}
	noSniff       = []string{"nosniff"}
	anyOrigin     = []string{"*"}
	exposeHeaders = []string{"WWW-Authenticate, Retry-After"}
	varyOrigin    = []string{"Origin"}
)

// Headers adds to every answer of next, errors included, the headers for caches
// and for browsers (CORS), and answers preflights. The origins are those whose
// pages may read the answers, compared exactly; none means all. This restricts
// pages only: other clients have no origin.
func Headers(origins []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Cache-Control"] = noStore
		h["X-Content-Type-Options"] = noSniff
		if mustClose(r) {
			h.Set("Connection", "close")
		}
		allowed := setCORS(h, origins, r.Header.Get("Origin"))
		if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
			next.ServeHTTP(w, r)
			return
		}
		if allowed { // a preflight: https://fetch.spec.whatwg.org/#cors-preflight-fetch
			h.Set("Access-Control-Allow-Methods", "GET, HEAD")
			h.Set("Access-Control-Allow-Headers", "Authorization, *") // apps add tracing headers; * does not include Authorization
			h.Set("Access-Control-Max-Age", "7200")                   // seconds; the most that Chromium accepts
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

// addHeaders adds the headers for caches to an answer that net/http itself gives
// to a request that reaches no handler: 400, 417, 431. All others have them.
func addHeaders(answer []byte) ([]byte, bool) {
	status, rest, _ := bytes.Cut(answer, []byte("\r\n"))
	if !bytes.HasPrefix(status, []byte("HTTP/1.")) || bytes.Contains(rest, []byte("Cache-Control: no-store\r\n")) {
		return nil, false
	}
	return slices.Concat(status, []byte("\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"), rest), true
}

// mustClose reports whether the connection must end with the answer, because a
// body may follow the request and is not read. HTTP/2 ends the stream by itself.
//
// HTTP/1.0 has no Transfer-Encoding, and net/http ignores that header there, so a
// chunked body would be taken for the next request. The handler cannot see the
// header either, so no such connection is kept (RFC 9112 §6.1).
func mustClose(r *http.Request) bool {
	return r.ProtoMajor == 1 && (r.ContentLength != 0 || r.ProtoMinor == 0)
}

// setCORS lets a page of the origin read the answer if it may, and reports that.
func setCORS(h http.Header, origins []string, origin string) bool {
	if len(origins) == 0 {
		h["Access-Control-Allow-Origin"] = anyOrigin
		h["Access-Control-Expose-Headers"] = exposeHeaders
		return true
	}
	h["Vary"] = varyOrigin
	if !slices.Contains(origins, origin) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h["Access-Control-Expose-Headers"] = exposeHeaders
	return true
}

// ExactPaths passes to next only requests whose path is sent in its one plain
// form, and all others to notFound. [http.ServeMux] would redirect //getToken or
// /x/../getToken to /getToken, with the query in the answer, and would take
// /%67etToken for it.
func ExactPaths(notFound, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.EscapedPath() != path.Clean("/"+r.URL.Path) {
			notFound.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}
