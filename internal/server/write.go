package server

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

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
// quality than text/plain (RFC 9110 §12.5.1). It is false for a missing header,
// several of them, and one that is too long.
func PrefersJSON(h http.Header) bool {
	accept := h["Accept"]
	if len(accept) != 1 || accept[0] == "*/*" || len(accept[0]) > maxAccept {
		return false
	}
	weights := make(map[string]float64) // by range
	for item := range strings.SplitSeq(accept[0], ",") {
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
