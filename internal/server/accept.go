package server

import (
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// maxAccept bounds the Accept header that is read, in bytes; browsers send 150.
const maxAccept = 512

// PrefersJSON reports whether the Accept header gives application/json a higher
// quality than text/plain (RFC 9110 §12.5.1). It is false for a missing header,
// several of them, and one that is too long.
func PrefersJSON(h http.Header) bool {
	accept := h["Accept"]
	if len(accept) != 1 || accept[0] == "*/*" || len(accept[0]) > maxAccept {
		return false
	}
	return quality(accept[0], "application/json") > quality(accept[0], "text/plain")
}

// quality returns the q of the most specific range that matches the media type;
// of several equal ranges, the highest.
func quality(accept, mediaType string) (q float64) {
	kind, _, _ := strings.Cut(mediaType, "/")
	best := 0
	for item := range strings.SplitSeq(accept, ",") {
		name, parameters, err := mime.ParseMediaType(item)
		if err != nil {
			continue
		}
		specific := slices.Index([]string{"*/*", kind + "/*", mediaType}, name) + 1
		weight := parseWeight(parameters)
		if specific > best || specific > 0 && specific == best && weight > q {
			best, q = specific, weight
		}
	}
	return q
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
