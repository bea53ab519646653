package faults

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"itwin-token-server/internal/standin"
)

// nasty is what a terminal, or whoever reads the log by lines, could be taken in by.
var nasty = []string{
	"\x1b[2J\x1b[31mred",
	"\x1b]0;title\x07",
	"\u009b31mred",
	"a\nlevel=ERROR msg=forged",
	"a\r\ntime=2026-01-01T00:00:00Z level=ERROR msg=forged",
	`a" level=ERROR msg=forged b="`,
	`a","level":"ERROR","msg":"forged","x":"`,
	"gpj.\u202exe\u202c",
	"a\u2028b\u2029c\u0085d",
	"\x00\x7f\b\b\b\bgone",
	"\xff\xfe\x80",
	"\U000e0041 tag \ufeff\u200b",
	strings.Repeat("long\u202e", 500),
}

// Callers put that into every value that is theirs. The log of either format still
// has one printable line for each request: that is checked of every line at the
// end, and here they are counted.
func TestLogInjection(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := w.serve(t, "LOG_LEVEL=debug", "LOG_FORMAT="+format)
			s.ready()
			asked, good := 0, 0
			for _, text := range nasty {
				s.ask(w.remember(w.Tenant.AccessToken(audience, standin.Claims{"sub": text}))).want(t, "sub", 200)
				claims := w.Tenant.Claims(audience)
				for _, header := range []standin.Claims{{"kid": text}, {"typ": text}, {"alg": text}, {"jku": text, "crit": []string{text}}} {
					s.ask(w.remember(w.Tenant.Sign(header, claims))).want(t, "header", 401)
				}
				for _, claim := range []string{"iss", "aud", "scope"} {
					s.ask(w.remember(w.Tenant.AccessToken(audience, standin.Claims{claim: text}))).want(t, claim, 200, 401)
				}
				s.get(t.Context(), http.DefaultClient, "/"+url.PathEscape(text), "").want(t, "path", 404)
				asked, good = asked+8, good+2 // a scope is not asked for, so any will do
			}
			for _, text := range nasty {
				s.raws(text)
			}
			lines := logLines(s.logged(), "getToken")
			if lines < asked {
				t.Errorf("%d lines for %d requests, want one for each", lines, asked)
			}
			if got := strings.Count(s.logged(), "sub"); got != good {
				t.Errorf("%d lines with a sub, want %d", got, good)
			}
			if n := logLines(s.logged(), "forged"); n > 0 {
				t.Errorf("%d forged lines", n)
			}
		})
	}
}

// raws puts the text where no well-behaved client would.
func (s *server) raws(text string) {
	for _, request := range []string{
		"GET /" + text + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"GET /getToken HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + text + "\r\nConnection: close\r\n\r\n",
		"GET /getToken HTTP/1.1\r\nHost: x\r\nAuthorization: " + text + "\r\nConnection: close\r\n\r\n",
		"GET /getToken HTTP/1.1\r\nHost: " + text + "\r\nConnection: close\r\n\r\n",
		"GET /getToken HTTP/1.1\r\nHost: x\r\nUser-Agent: " + text + "\r\n" + text + ": x\r\nConnection: close\r\n\r\n",
		text + " /getToken HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		text + "\r\n\r\n",
	} {
		if answer, _ := s.raw(request); strings.HasPrefix(answer, "HTTP/1.1 200") {
			s.t.Errorf("%q was answered %q", request, answer)
		}
	}
}

// logLines counts the lines with this message, in either format.
func logLines(log, message string) int {
	n := 0
	for line := range strings.Lines(log) {
		text := strings.HasPrefix(line, "time=") && strings.Contains(firstWords(line), " msg="+message)
		json := strings.HasPrefix(line, "{") && strings.Contains(line, `,"msg":"`+message+`"`)
		if text || json || strings.HasPrefix(line, "level=") {
			n++
		}
	}
	return n
}

// firstWords are time, level and msg: nothing of a caller's comes before those.
func firstWords(line string) string {
	return strings.Join(strings.SplitN(line, " ", 4)[:min(3, strings.Count(line, " ")+1)], " ")
}
