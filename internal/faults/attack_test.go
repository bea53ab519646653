package faults

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

// nasty texts would confuse a terminal, or a reader of the log's lines.
var nasty = []string{
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

// Callers put nasty texts and personal data into everything that they control, at the
// log level that shows most. The log still has one printable line for each request,
// which shows none of it: checkLog looks at each line, this test counts.
func TestLogInjection(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.startReady("LOG_LEVEL=debug")
	requests, accepted := 0, 0
	getToken := func(token string, status int) {
		t.Helper()
		requests++
		if status == 200 {
			accepted++
		}
		p.getToken(f.record(token)).want(t, "a token", status)
	}
	for _, text := range nasty {
		for _, header := range []standintest.Claims{{"kid": text}, {"typ": text}, {"alg": text}, {"jku": text, "crit": []string{text}}} {
			getToken(f.Tenant.Sign(header, f.Tenant.Claims(audience)), 401)
		}
		for claim, status := range map[string]int{"iss": 401, "aud": 401, "scope": 200, "sub": 200} {
			getToken(f.Tenant.AccessToken(audience, standintest.Claims{claim: text}), status)
		}
		p.get("/"+url.PathEscape(text), "").want(t, "a nasty path", 404)
		p.sendRaw(text)
	}
	getToken(f.Tenant.IDToken(appID), 200)
	getToken(f.Tenant.IDToken(appID, standintest.Claims{"sub": "email|jane.doe@example.com"}), 200)
	getToken(f.Tenant.IDToken(appID, standintest.Claims{"exp": time.Now().Add(-time.Minute).Unix()}), 401)
	getToken(f.Tenant.OpaqueToken(), 401)
	p.get("/getToken/"+f.userToken(), "").want(t, "a token in the path", 404)
	p.get("/getToken?access_token="+f.userToken(), "").want(t, "a token in the query", 401)
	if lines := p.logLines("getToken"); lines < requests {
		t.Errorf("%d lines for %d requests, want one for each", lines, requests)
	}
	if got := strings.Count(p.log.String(), " sub="); got != accepted {
		t.Errorf("%d lines with a sub, want %d", got, accepted)
	}
	if n := p.logLines("forged"); n > 0 {
		t.Errorf("%d forged lines", n)
	}
}

// sendRaw puts the text where no HTTP client would.
func (p *process) sendRaw(text string) {
	for _, request := range []string{
		"GET /" + text + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"GET /getToken HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + text + "\r\nConnection: close\r\n\r\n",
		"GET /getToken HTTP/1.1\r\nHost: x\r\nAuthorization: " + text + "\r\nConnection: close\r\n\r\n",
		"GET /getToken HTTP/1.1\r\nHost: " + text + "\r\nUser-Agent: " + text + "\r\n" + text + ": x\r\nConnection: close\r\n\r\n",
		text + " /getToken HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		text + "\r\n\r\n",
	} {
		if answer := p.raw(request); strings.HasPrefix(answer, "HTTP/1.1 200") {
			p.t.Errorf("%q was answered %q", request, answer)
		}
	}
}

// raw sends the request and returns all that the server sends until it closes the
// connection, which must be soon.
func (p *process) raw(request string) string {
	p.t.Helper()
	conn := p.open(1)[0]
	conn.SetDeadline(time.Now().Add(8 * time.Second)) // headers may take 10 s
	io.WriteString(conn, request)                     // the server need not read all of it
	text, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Errorf("%.100q: the connection stays open after %q", request, text)
	}
	return string(text)
}

// Requests that two servers in a row could understand differently. Each gets one
// answer, which ends the connection: nothing in a body is taken for a request.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.startReady("LOG_LEVEL=debug")
	bearer := "Authorization: Bearer " + f.userToken() + "\r\n"
	const get, end, chunked = "GET /getToken HTTP/1.1\r\nHost: x\r\n", "\r\n", "Transfer-Encoding: chunked\r\n"
	hidden := get + bearer + end
	length := fmt.Sprintf("Content-Length: %d\r\n", len(hidden))
	for _, test := range []struct {
		name, request string
		statuses      []int
	}{
		{"two Content-Lengths", get + "Content-Length: 0\r\n" + length + end + hidden, []int{400}},
		{"a list of Content-Lengths", get + "Content-Length: 0, 5\r\n" + end + hidden, []int{400}},
		{"Content-Length and chunks", get + length + chunked + end + "0\r\n\r\n" + hidden, []int{400, 401}},
		{"chunks in HTTP/1.0", "GET /getToken HTTP/1.0\r\nConnection: keep-alive\r\n" + chunked + end + "0\r\n\r\n" + hidden, []int{400, 401}},
		{"an unknown Transfer-Encoding", get + "Transfer-Encoding: xchunked\r\n" + length + end + hidden, []int{400, 501}},
		{"two Transfer-Encodings", get + chunked + "Transfer-Encoding: identity\r\n" + end + hidden, []int{400, 501}},
		{"a body that is a request", get + length + end + hidden, []int{401}},
		{"a body that is not sent", get + "Content-Length: 100000000\r\n" + end, []int{401}},
		{"chunks with bad sizes", get + chunked + end + "zz\r\n" + hidden, []int{400, 401}},
		{"a folded first header", "GET /getToken HTTP/1.1\r\n Host: x\r\n" + bearer + end, []int{400}},
		{"a bare CR in a value", get + "X-A: b\rAuthorization: Bearer x\r\n" + end, []int{400}},
		{"NUL in a value", get + "X-A: b\x00c\r\n" + bearer + end, []int{400}},
		{"a space before the colon", get + "Authorization : Bearer x\r\n" + end, []int{400}},
		{"a tab before the colon", get + "Content-Length\t: 5\r\n" + end + hidden, []int{400}},
		{"two Authorization headers", get + bearer + "authorization: Bearer x\r\nConnection: close\r\n" + end, []int{400}},
		{"two Hosts", get + "Host: y\r\n" + bearer + end, []int{400}},
		{"no Host", "GET /getToken HTTP/1.1\r\n" + bearer + end, []int{400}},
		{"HTTP/0.9", "GET /getToken\r\n" + bearer + end, []int{400}},
		{"HTTP/2 over plain text", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{400, 404, 405, 505}},
	} {
		text := p.raw(test.request)
		_, status, _ := strings.Cut(text, " ")
		if code, _ := strconv.Atoi(status[:min(3, len(status))]); !slices.Contains(test.statuses, code) {
			t.Errorf("%s: got %q, want %v", test.name, text, test.statuses)
		}
		if n := strings.Count(text, "HTTP/1."); n != 1 || strings.Contains(text, "Bearer eyJ") {
			t.Errorf("%s: got %d answers, want 1 without a token: %q", test.name, n, text)
		}
	}
	p.getToken(f.userToken()).want(t, "afterwards", 200)
}
