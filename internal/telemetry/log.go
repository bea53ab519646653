package telemetry

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"strconv"
	"strings"
)

// maxText bounds a caller's text in the log, in bytes.
const maxText = 128

// NewLog returns a logger that writes to w in the format "text" or "json".
func NewLog(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// Printable returns at most 128 bytes of a caller's text in printable ASCII, so
// that it cannot end the line or control a terminal. The handlers of slog don't
// escape all of that: JSON keeps the control characters above ASCII.
func Printable(text string) string {
	text = text[:min(len(text), maxText)]
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		return strconv.QuoteToASCII(text)
	}
	return text
}

// Subject returns a token's sub as the log may show it: as a hash if it contains
// the user's e-mail address, as with some connections of Auth0.
func Subject(sub string) string {
	if strings.Contains(sub, "@") {
		sum := sha256.Sum256([]byte(sub))
		return "sha256:" + hex.EncodeToString(sum[:6])
	}
	return Printable(sub)
}
