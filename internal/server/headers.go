// Package guard puts on every answer, errors too, what caches and browsers must
// know of a token server, and answers the questions that browsers ask ahead.
package server

import (
	"net/http"
	"slices"
)

// Header values that never change are made once, not for each answer.
var (
	noStore = []string{"no-store"}
	noSniff = []string{"nosniff"}
	anyone  = []string{"*"}
	exposed = []string{"WWW-Authenticate, Retry-After"}
	varies  = []string{"Origin"}
)

// Handler guards next. The origins are those whose pages may read its answers,
// compared to the letter; none means all of them. That keeps out nobody but
// pages: other clients have no origin.
func Handler(origins []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Cache-Control"] = noStore
		h["X-Content-Type-Options"] = noSniff
		if r.ContentLength != 0 { // a body is not read, so nothing can follow it
			h.Set("Connection", "close")
		}
		welcome := allow(origins, h, r)
		if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
			next.ServeHTTP(w, r)
			return
		}
		if welcome { // a preflight: https://fetch.spec.whatwg.org/#cors-preflight-fetch
			h.Set("Access-Control-Allow-Methods", "GET, HEAD")
			h.Set("Access-Control-Allow-Headers", "Authorization, *") // apps add tracing headers; * leaves out Authorization
			h.Set("Access-Control-Max-Age", "7200")                   // seconds; Chromium takes no more
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

// allow lets a page of the request's origin read the answer, if it may.
func allow(origins []string, h http.Header, r *http.Request) bool {
	if len(origins) == 0 {
		h["Access-Control-Allow-Origin"] = anyone
		h["Access-Control-Expose-Headers"] = exposed
		return true
	}
	h["Vary"] = varies
	origin := r.Header.Get("Origin")
	if !slices.Contains(origins, origin) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h["Access-Control-Expose-Headers"] = exposed
	return true
}
