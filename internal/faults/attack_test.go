package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

// 5,000 random kids of 30 clients, some of which disconnect, cause no more key
// fetches than allowed; callers with known keys do not wait for those.
func TestFloodOfUnknownKeys(t *testing.T) {
	t.Parallel()
	const kids, clients = 5_000, 30
	f := newFixture(t)
	p := f.startReady()
	known := p.load(2, 10*time.Millisecond, oneOf(f.userTokens(20)))
	start, unknownKey := time.Now(), f.unknownKeys()
	var flood sync.WaitGroup
	for i := range clients {
		client, timeout := newClient(t), time.Minute
		if i%3 == 0 {
			timeout = 50 * time.Millisecond
		}
		flood.Go(func() {
			for range kids / clients {
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				r := p.get(ctx, client, "/getToken", unknownKey())
				slow := r.status == 503 && r.took() >= 3*time.Second // on a busy machine, for a fetch that takes longer
				if !slow && (r.err == nil || timeout == time.Minute) {
					r.want(t, "random kid", 401)
				}
				cancel()
			}
		})
	}
	flood.Wait()
	took := time.Since(start)
	allowed := 1 + 5 + 1 + int(took/(30*time.Second)) // the first, a burst, then one in 30 s
	if n := f.Tenant.Requests(); n < 2 || n > allowed {
		t.Errorf("%d random kids in %v caused %d key fetches, want 2 to %d", kids, took, n, allowed)
	}
	results := known.end()
	wantAll(t, "callers with known keys", results, 200)
	t.Logf("%v for %d kids, %d key fetches; callers with known keys waited %v at most", took, kids, f.Tenant.Requests(), slowest(results))
}

// nasty texts would confuse a terminal, or a reader of the log's lines.
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
	"\x00\x7f\b\b\b\bdeleted",
	"\xff\xfe\x80",
	"\U000e0041 tag \ufeff\u200b",
	strings.Repeat("long\u202e", 500),
}

// Callers put nasty texts into everything that they control. The log still has one
// printable line for each request: checkLog looks at each line, this test counts.
func TestLogInjection(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			p := f.startReady("LOG_LEVEL=debug", "LOG_FORMAT="+format)
			requests, accepted := 0, 0
			for _, text := range nasty {
				var tokens []string
				for _, header := range []standin.Claims{{"kid": text}, {"typ": text}, {"alg": text}, {"jku": text, "crit": []string{text}}} {
					tokens = append(tokens, f.Tenant.Sign(header, f.Tenant.Claims(audience)))
				}
				for _, claim := range []string{"iss", "aud", "scope", "sub"} { // the last two are accepted
					tokens = append(tokens, f.Tenant.AccessToken(audience, standin.Claims{claim: text}))
				}
				for i, token := range tokens {
					status := 401
					if i >= len(tokens)-2 {
						status = 200
						accepted++
					}
					requests++
					p.getToken(f.record(token)).want(t, "a nasty token", status)
				}
				p.get(t.Context(), http.DefaultClient, "/"+url.PathEscape(text), "").want(t, "a nasty path", 404)
				p.sendRaw(text)
			}
			if lines := p.logLines("getToken"); lines < requests {
				t.Errorf("%d lines for %d requests, want one for each", lines, requests)
			}
			if got := strings.Count(p.log.String(), "sub"); got != accepted {
				t.Errorf("%d lines with a sub, want %d", got, accepted)
			}
			if n := p.logLines("forged"); n > 0 {
				t.Errorf("%d forged lines", n)
			}
		})
	}
}

// sendRaw puts the text where no HTTP client would.
func (p *process) sendRaw(text string) {
	for _, request := range []string{
		"GET /" + text + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"GET /getToken HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + text + "\r\nConnection: close\r\n\r\n",
		"GET /getToken HTTP/1.1\r\nHost: x\r\nAuthorization: " + text + "\r\nConnection: close\r\n\r\n",
		"GET /getToken HTTP/1.1\r\nHost: " + text + "\r\nConnection: close\r\n\r\n",
		"GET /getToken HTTP/1.1\r\nHost: x\r\nUser-Agent: " + text + "\r\n" + text + ": x\r\nConnection: close\r\n\r\n",
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
	conn := p.dial()
	defer conn.Close()
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
		{"a signed Content-Length", get + "Content-Length: +5\r\n" + end + hidden, []int{400}},
		{"Content-Length and chunks", get + length + chunked + end + "0\r\n\r\n" + hidden, []int{400, 401}},
		{"chunks and Content-Length", get + chunked + "Content-Length: 4\r\n" + end + "0\r\n\r\n" + hidden, []int{400, 401}},
		{"chunks in HTTP/1.0", "GET /getToken HTTP/1.0\r\nConnection: keep-alive\r\n" + chunked + end + "0\r\n\r\n" + hidden, []int{400, 401}},
		{"an unknown Transfer-Encoding", get + "Transfer-Encoding: xchunked\r\n" + length + end + hidden, []int{400, 501}},
		{"two Transfer-Encodings", get + chunked + "Transfer-Encoding: identity\r\n" + end + "0\r\n\r\n" + hidden, []int{400, 501}},
		{"a body that is a request", get + length + end + hidden, []int{401}},
		{"chunks with bad sizes", get + chunked + end + "zz\r\n" + hidden, []int{400, 401}},
		{"a folded header", get + "X-A: b\r\n c\r\nConnection: close\r\n" + end, []int{400, 401}},
		{"a folded first header", "GET /getToken HTTP/1.1\r\n Host: x\r\n" + bearer + end, []int{400}},
		{"a bare CR in a value", get + "X-A: b\rAuthorization: Bearer x\r\n" + end, []int{400}},
		{"a bare CR in a name", get + "X-A\r: b\r\n" + end, []int{400}},
		{"NUL in a value", get + "X-A: b\x00c\r\n" + bearer + end, []int{400}},
		{"NUL in the path", "GET /getToken\x00 HTTP/1.1\r\nHost: x\r\n" + end, []int{400}},
		{"a space before the colon", get + "Authorization : Bearer x\r\n" + end, []int{400}},
		{"a tab before the colon", get + "Content-Length\t: 5\r\n" + end + hidden, []int{400}},
		{"two Authorization headers", get + bearer + "authorization: Bearer x\r\nConnection: close\r\n" + end, []int{400}},
		{"the same Authorization twice", get + bearer + bearer + "Connection: close\r\n" + end, []int{400}},
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

// A body of 100 MB is announced: the answer does not wait for it, and it is not read.
func TestHugeBody(t *testing.T) {
	t.Parallel()
	const announced, buffers = 100_000_000, 16 << 20 // what both ends of a socket may hold
	f := newFixture(t)
	p := f.startReady()
	for method, status := range map[string]string{"GET": "200", "POST": "405"} {
		conn := p.dial()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(conn, "%s /getToken HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", method, f.userToken(), announced)
		line, err := bufio.NewReader(conn).ReadString('\n')
		if !strings.HasPrefix(line, "HTTP/1.1 "+status) {
			t.Errorf("%s: got %q (%v), want %s", method, line, err, status)
		}
		sent, _ := io.CopyN(conn, zeros{}, announced)
		if sent > buffers {
			t.Errorf("%s: the server read %d bytes, want none", method, sent)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
