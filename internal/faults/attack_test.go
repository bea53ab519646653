package faults

import (
	"errors"
	"io"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

// hostile texts would confuse a terminal, or a reader of the log's lines.
var hostile = []string{
	"\x1b[2J\x1b[31mred",
	"\u009b31mred",
	"a\nlevel=ERROR msg=forged",
	"a\r\ntime=2026-01-01T00:00:00Z level=ERROR msg=forged",
	`a" level=ERROR msg=forged b="`,
	"gpj.\u202exe\u202c",
	"a\u2028b\u2029c\u0085d",
	"\x00\x7f\b\b\b\bdeleted",
	"\xff\xfe\x80",
	strings.Repeat("long\u202e", 500),
}

// Callers put hostile texts and personal data into everything that they control, at the
// log level that shows most. The log still has one printable line for each request,
// which shows none of it: checkLog looks at each line, this test counts.
func TestLogInjection(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.startReady("LOG_LEVEL=debug")
	requests := 0
	getToken := func(token string, status int) {
		t.Helper()
		requests++
		p.get("/getToken", token).wantStatus(t, "a token", status)
	}
	for _, text := range hostile {
		for _, field := range []string{"kid", "typ", "alg", "jku"} {
			header := standintest.Claims{field: text, "crit": field}
			getToken(f.Tenant.Sign(header, f.Tenant.Claims(audience)), 401)
		}
		for claim, status := range map[string]int{"iss": 401, "aud": 401, "scope": 200, "sub": 200} {
			getToken(f.Tenant.AccessToken(audience, standintest.Claims{claim: text}), status)
		}
		p.get("/"+url.PathEscape(text), "").wantStatus(t, "a hostile path", 404)
		p.sendRaw(text)
	}
	getToken(f.Tenant.IDToken(appID), 200)
	getToken(f.Tenant.IDToken(appID, standintest.Claims{"sub": "email|jane.doe@example.com"}), 200)
	getToken(f.Tenant.OpaqueToken(), 401)
	p.get("/getToken/"+f.userToken(), "").wantStatus(t, "a token in the path", 404)
	if lines := p.logLines("getToken"); lines < requests {
		t.Errorf("%d lines for %d requests, want one for each", lines, requests)
	}
	if p.logLines("forged") > 0 {
		t.Error("a forged line")
	}
}

// sendRaw puts the text where no HTTP client would. The connection must end soon, and
// no answer may be 200.
func (p *process) sendRaw(text string) {
	p.t.Helper()
	const get, end = "GET /getToken HTTP/1.1\r\nHost: x\r\n", "\r\nConnection: close\r\n\r\n"
	for _, request := range []string{
		"GET /" + text + " HTTP/1.1\r\nHost: x" + end,
		get + "Authorization: Bearer " + text + end,
		get + "Authorization: " + text + end,
		"GET /getToken HTTP/1.1\r\nHost: " + text + "\r\n" + text + ": x" + end,
		text + " /getToken HTTP/1.1\r\nHost: x" + end,
	} {
		conn := p.open(1)[0]
		conn.SetDeadline(time.Now().Add(8 * time.Second)) // headers may take 10 s
		io.WriteString(conn, request)                     // the server need not read all of it
		answer, err := io.ReadAll(conn)
		if errors.Is(err, os.ErrDeadlineExceeded) || strings.HasPrefix(string(answer), "HTTP/1.1 200") {
			p.t.Errorf("%.100q was answered %q (%v)", request, answer, err)
		}
	}
}
