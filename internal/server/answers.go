package server

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Header values that never change are made once, not for each answer.
var (
	noStore       = []string{"no-store"}
	noSniff       = []string{"nosniff"}
	anyOrigin     = []string{"*"}
	exposeHeaders = []string{"WWW-Authenticate, Retry-After"}
	varyOrigin    = []string{"Origin"}
	textType      = []string{"text/plain; charset=utf-8"}
	jsonType      = []string{"application/json"}
)

// Headers adds to every answer of next, errors included, the headers for caches
// and for browsers (CORS), and answers preflights. The origins are those whose
// pages may read the answers, compared exactly; none means all. This restricts
// pages only: other clients have no origin.
func Headers(origins []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		allowed := setHeaders(h, origins, r.Header.Get("Origin"))
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

// setHeaders sets the headers of every answer. It reports whether a page of the
// origin may read the answer.
func setHeaders(h http.Header, origins []string, origin string) bool {
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = noSniff
	allowed := anyOrigin
	if len(origins) > 0 {
		h["Vary"] = varyOrigin
		if !slices.Contains(origins, origin) {
			return false
		}
		allowed = []string{origin}
	}
	h["Access-Control-Allow-Origin"] = allowed
	h["Access-Control-Expose-Headers"] = exposeHeaders
	return true
}

// headerLines returns the headers of an answer that net/http sends itself, for an
// unknown origin.
func headerLines(origins []string) string {
	h, text := make(http.Header), new(strings.Builder)
	setHeaders(h, origins, "")
	h.Write(text) // to memory: cannot fail
	return text.String()
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

// PrefersJSON reports whether the Accept header gives application/json a higher
// quality than text/plain (RFC 9110 §12.5.1). It is false for a missing header, and
// one that is too long.
func PrefersJSON(h http.Header) bool {
	accept := strings.Join(h["Accept"], ",") // several lines are one list (RFC 9110 §5.3)
	if accept == "" || accept == "*/*" || len(accept) > maxAccept {
		return false
	}
	weights := make(map[string]float64) // by range
	for item := range strings.SplitSeq(accept, ",") {
		if name, parameters, err := mime.ParseMediaType(item); err == nil {
			weights[name] = max(weights[name], parseWeight(parameters))
		}
	}
	quality := func(ranges ...string) float64 { // of the first that is there
		for _, name := range ranges {
			if weight, ok := weights[name]; ok {
				return weight
			}
		}
		return 0
	}
	return quality("application/json", "application/*", "*/*") > quality("text/plain", "text/*", "*/*")
}

// parseWeight returns the parameter q: 1 if it is missing, 0 if it is malformed
// (RFC 9110 §12.4.2).
func parseWeight(parameters map[string]string) float64 {
	text, ok := parameters["q"]
	if !ok {
		return 1
	}
	q, err := strconv.ParseFloat(text, 64)
	if err != nil || len(text) > len("0.123") || strings.Trim(text, "0123456789.") != "" || q > 1 {
		return 0
	}
	return q
}
