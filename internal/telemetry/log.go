// Package logs makes the server's log: one line an event, from which no caller
// can break out.
package telemetry

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"strconv"
	"strings"
)

// maxText bounds what of a caller's text reaches the log, in bytes.
const maxText = 128

// NewLog makes a log of the format, "text" or "json", to w.
func NewLog(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// Printable is a caller's text, cut short, without what could end the line or
// steer a terminal. The handlers of slog escape some of that, not all: JSON
// lets the control characters above ASCII through.
func Printable(text string) string {
	text = text[:min(len(text), maxText)]
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		return strconv.QuoteToASCII(text)
	}
	return text
}

// Subject is a sub as the log may show it. Some connections of Auth0 make
// it of the user's e-mail address: then it is shown as a hash.
func Subject(sub string) string {
	if strings.Contains(sub, "@") {
		sum := sha256.Sum256([]byte(sub))
		return "sha256:" + hex.EncodeToString(sum[:6])
	}
	return Printable(sub)
}
