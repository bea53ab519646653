package server

import (
	"net/http"
	"strconv"
	"strings"
)

// maxAcceptBytes bounds the Accept header that is read; browsers send about 150.
const maxAcceptBytes = 512

// PrefersJSON reports whether the Accept header gives application/json a higher
// quality than text/plain. It is false for a missing header, several, and one
// that is too long.
func PrefersJSON(h http.Header) bool {
	accept := h["Accept"]
	return len(accept) == 1 && len(accept[0]) <= maxAcceptBytes &&
		quality(accept[0], "application/json", "application/*") > quality(accept[0], "text/plain", "text/*")
}

// quality returns the quality that an Accept header gives to a media type: that
// of the most specific range that matches it (RFC 9110 §12.5.1), or 0.
func quality(accept, mediaType, wildcard string) (q float64) {
	for i, best := 0, 0; i <= len(accept); {
		item := untilUnquoted(accept[i:], ',')
		i += len(item) + 1
		name := untilUnquoted(item, ';')
		specific := 0
		switch name = strings.Trim(name, " \t"); {
		case strings.EqualFold(name, mediaType):
			specific = 3
		case strings.EqualFold(name, wildcard):
			specific = 2
		case name == "*/*":
			specific = 1
		}
		if specific > best {
			best, q = specific, 0
		}
		if specific > 0 && specific == best {
			q = max(q, weight(item))
		}
	}
	return q
}

// weight returns the q of a media range: 1 if it has none, 0 if it is malformed
// (RFC 9110 §12.4.2). Other parameters do not matter here.
func weight(item string) float64 {
	for i := len(untilUnquoted(item, ';')) + 1; i <= len(item); {
		parameter := untilUnquoted(item[i:], ';')
		i += len(parameter) + 1
		name, value, _ := strings.Cut(strings.Trim(parameter, " \t"), "=")
		if !strings.EqualFold(name, "q") {
			continue
		}
		if len(value) > len("0.123") || strings.Trim(value, "0123456789.") != "" {
			return 0
		}
		if q, err := strconv.ParseFloat(value, 64); err == nil && q <= 1 {
			return q
		}
		return 0
	}
	return 1
}

// untilUnquoted returns the text before the first separator that is not inside a
// quoted string (RFC 9110 §5.6.4).
func untilUnquoted(text string, separator byte) string {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '"':
			quoted = !quoted
		case quoted && text[i] == '\\':
			i++
		case !quoted && text[i] == separator:
			return text[:i]
		}
	}
	return text
}
