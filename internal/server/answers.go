package server

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
)

// Headers that are always the same are made once, not for each answer.
var (
	always = http.Header{
		"Cache-Control":          {"no-store"},
		"X-Content-Type-Options": {"nosniff"},
	}
	varyOrigin = []string{"Origin"}
	exposed    = []string{"WWW-Authenticate, Retry-After"}
	preflight  = http.Header{
		"Access-Control-Allow-Methods": {"GET, HEAD"},
		"Access-Control-Allow-Headers": {"Authorization, *"}, // * is all others: apps add tracing headers
		"Access-Control-Max-Age":       {"7200"},             // seconds; the most that Chromium accepts
	}
	textType = []string{"text/plain; charset=utf-8"}
	jsonType = []string{"application/json"}
)

// Headers adds to every answer of next, errors included, the headers for caches
// and for browsers (CORS), and answers preflights. The origins are those whose
// pages may read the answers, compared exactly; none means all. This restricts
// pages only: other clients have no origin.
func Headers(origins []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, origin := w.Header(), "*"
		maps.Copy(h, always)
		if len(origins) > 0 {
			h["Vary"] = varyOrigin
			origin = r.Header.Get("Origin")
		}
		allowed := len(origins) == 0 || slices.Contains(origins, origin)
		if allowed {
			h.Set("Access-Control-Allow-Origin", origin)
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

// ExactPaths passes to next only requests whose path is sent in its one plain
// form, and all others to notFound. [http.ServeMux] would redirect //getToken or
// /x/../getToken to /getToken, with the query in the answer, and would take
// /%67etToken for it.
func ExactPaths(notFound, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := r.URL.EscapedPath()
		if !strings.HasPrefix(sent, "/") || sent != r.URL.Path || sent != path.Clean(sent) {
			notFound.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// WriteText writes an answer of plain text.
func WriteText(w http.ResponseWriter, status int, body string) {
	w.Header()["Content-Type"] = textType
	w.WriteHeader(status)
	io.WriteString(w, body)
}

// WriteJSON writes an answer of strings and numbers as JSON.
func WriteJSON(w http.ResponseWriter, status int, v map[string]any) {
	body, _ := json.Marshal(v) // cannot fail for strings and numbers
	w.Header()["Content-Type"] = jsonType
	w.WriteHeader(status)
	w.Write(body)
}

// maxAccept bounds the Accept header that is read, in bytes; browsers send 150.
const maxAccept = 512

// PrefersJSON reports whether the Accept header lists application/json, and neither
// text/plain nor text/* nor JSON with the quality 0. Other qualities are not compared, so
// "application/json, text/plain, */*", which axios and Angular send, means text.
func PrefersJSON(h http.Header) bool {
	accept := strings.Join(h["Accept"], ",") // several lines are one list (RFC 9110 §5.3)
	accept = strings.ToLower(strings.ReplaceAll(accept[:min(len(accept), maxAccept)], " ", ""))
	listed := false
	for item := range strings.SplitSeq(accept, ",") {
		mediaType, _, _ := strings.Cut(item, ";")
		_, quality, found := strings.Cut(item, ";q=")
		switch {
		case mediaType == "text/plain", mediaType == "text/*":
			return false
		case mediaType == "application/json" && found && strings.Trim(quality, "0.") == "":
			return false
		case mediaType == "application/json":
			listed = true
		}
	}
	return listed
}
