package server

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Header values that are the same in most answers are made once, not for each of them.
var (
	anyOrigin = []string{"*"}
	exposed   = []string{"WWW-Authenticate, Retry-After"}
	plainText = []string{"text/plain; charset=utf-8"}
	always    = http.Header{"Cache-Control": {"no-store"}, "X-Content-Type-Options": {"nosniff"}}
	preflight = http.Header{
		"Access-Control-Allow-Methods": {"GET, HEAD"},
		"Access-Control-Allow-Headers": {"Authorization, *"}, // * is all others: apps add tracing headers
		"Access-Control-Max-Age":       {"7200"},             // seconds; the most that Chromium accepts
	}
)

// Headers adds to every answer of next, errors included, the headers for caches
// and for browsers (CORS), and answers preflights. The origins are those whose
// pages may read the answers, compared exactly; none means all. This restricts
// pages only: other clients have no origin.
func Headers(origins []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, origin, allowed := w.Header(), anyOrigin, true
		maps.Copy(h, always)
		if len(origins) > 0 {
			h.Set("Vary", "Origin")
			origin = r.Header["Origin"]
			allowed = len(origin) == 1 && slices.Contains(origins, origin[0])
		}
		if allowed {
			h["Access-Control-Allow-Origin"] = origin
			h["Access-Control-Expose-Headers"] = exposed
		}
		// A preflight: https://fetch.spec.whatwg.org/#cors-preflight-fetch
		if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
			next.ServeHTTP(w, r)
			return
		}
		if allowed {
			maps.Copy(h, preflight)
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

// WriteText writes an answer of plain text.
func WriteText(w http.ResponseWriter, status int, body string) {
	w.Header()["Content-Type"] = plainText
	w.WriteHeader(status)
	io.WriteString(w, body)
}

const typeJSON = "application/json"

// WriteJSON writes an answer of strings and numbers as JSON.
func WriteJSON(w http.ResponseWriter, status int, v map[string]any) {
	body, _ := json.Marshal(v) // cannot fail for strings and numbers
	w.Header().Set("Content-Type", typeJSON)
	w.WriteHeader(status)
	w.Write(body)
}

// withoutSpace removes the white space of headers.
var withoutSpace = strings.NewReplacer(" ", "", "\t", "")

// PrefersJSON reports whether the Accept header lists application/json, and neither
// text/plain nor text/* nor JSON with the quality 0. Other qualities are not read, so
// "application/json, text/plain, */*", which axios and Angular send, means text.
func PrefersJSON(h http.Header) bool {
	// Several lines are one list, and its empty items mean nothing (RFC 9110 §5.3, §5.6.1).
	accept := strings.ToLower(withoutSpace.Replace(strings.Join(h["Accept"], ",")))
	listed := false
	for item := range strings.FieldsFuncSeq(accept, func(r rune) bool { return r == ',' }) {
		mediaType, _, _ := strings.Cut(item, ";")
		if mediaType == "text/plain" || mediaType == "text/*" ||
			mediaType == typeJSON && isZero(item) {
			return false
		}
		listed = listed || mediaType == typeJSON
	}
	return listed
}

// isZero reports whether an item of an Accept header has the quality 0, which may have
// three decimals.
func isZero(item string) bool {
	// After 0 and its decimals, all zeros, the parameter must end; the ; added here ends the last.
	_, rest, _ := strings.Cut(item+";", ";q=0")
	return strings.HasPrefix(strings.TrimLeft(rest, ".0"), ";")
}
