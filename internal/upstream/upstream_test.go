package upstream

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

// proxy is what the environment says. net/http reads it once.
const proxy = "http://proxy.test:3128"

func TestMain(m *testing.M) {
	os.Setenv("HTTPS_PROXY", proxy)
	os.Setenv("NO_PROXY", "other.test")
	os.Exit(m.Run())
}

// get requests the keys of a tenant.
func get(ctx context.Context, transport http.RoundTripper, host string) (Answer, error) {
	req := httptest.NewRequestWithContext(ctx, "GET", "https://"+host+"/.well-known/jwks.json", nil)
	return Do(transport, req)
}

// wantError wants an [*Error] of the kind that names the host and has these words.
func wantError(t *testing.T, err error, kind Kind, host, words string) *Error {
	t.Helper()
	failed, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("got %v, want an *Error with %s", err, words)
	}
	text := failed.Error()
	if failed.Kind != kind || !strings.HasPrefix(text, host+": ") || !strings.Contains(text, words) {
		t.Errorf("got %s (%s), want %s: … %s … (%s)", text, failed.Kind, host, words, kind)
	}
	if strings.Contains(text, standintest.Canary) {
		t.Errorf("the error %q repeats what upstream sent", text)
	}
	return failed
}

// newServer returns a transport that trusts a new TLS server, and the server's host.
func newServer(t *testing.T, handler http.HandlerFunc) (*agentTransport, string) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return Transport(roots, "v1.2").(*agentTransport), server.Listener.Addr().String()
}

// A canned transport gives each request this result, for what no server of a test does.
type canned struct {
	resp *http.Response
	err  error
}

func (c canned) RoundTrip(*http.Request) (*http.Response, error) { return c.resp, c.err }

// compressed returns an answer with a compressed body.
func compressed(body string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, body)
	w.Close()
	return ok + "Content-Encoding: gzip\r\n\r\n" + b.String()
}

// getAnswer requests the keys from a server that sends this, and then hangs up.
func getAnswer(t *testing.T, sent string) (Answer, error) {
	t.Helper()
	transport, host := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.UserAgent() != "itwin-token-server/v1.2" || !r.Close { // one connection a request
			t.Errorf("the request's header is %v, closing: %v", r.Header, r.Close)
		}
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			io.WriteString(conn, sent)
			conn.Close()
		}
	})
	return get(t.Context(), transport, host)
}

// The beginning of an answer, and a line of its header.
const (
	ok   = "HTTP/1.1 200 OK\r\n"
	wait = "Retry-After: 12\r\n"
)

func TestAnswers(t *testing.T) {
	longest := strings.Repeat("x", maxBody)
	for _, test := range []struct {
		name, sent string
		status     int
		body       string
		pause      time.Duration // of the caller's error about it
	}{
		{"as long as allowed", ok + "\r\n" + longest, 200, longest, 0},
		{"compressed", compressed(longest), 200, longest, 0},
		{"with a BOM", ok + "\r\n\xef\xbb\xbf{}", 200, "{}", 0},
		{"with a pause", ok + wait + "\r\n{}", 200, "{}", 0},
		{"204 and a pause", "HTTP/1.1 204 x\r\n" + wait + "\r\n", 204, "", 12 * time.Second},
		{"400 and a pause", "HTTP/1.1 400 x\r\n" + wait + "\r\nno", 400, "no", 12 * time.Second},
	} {
		got, err := getAnswer(t, test.sent)
		if err != nil || got.Status != test.status || string(got.Body) != test.body {
			t.Errorf("%s: got %d and %d bytes (%v), want %d and %d bytes", test.name,
				got.Status, len(got.Body), err, test.status, len(test.body))
		}
		failed := wantError(t, got.Errorf(Refused, "no"), Refused, got.Host, "no")
		if pause := failed.RetryAfter(); pause != test.pause {
			t.Errorf("%s: a pause of %v, want %v", test.name, pause, test.pause)
		}
	}
}

func TestRefusedAnswers(t *testing.T) {
	const pause = 12 * time.Second
	tooLong := strings.Repeat("x", maxBody+1)
	redirect := "HTTP/1.1 307 x\r\nLocation: https://a.test/\r\n"
	for _, test := range []struct {
		sent  string
		kind  Kind
		words string
		pause time.Duration
	}{
		{ok + "\r\n" + tooLong, Nonsense, "longer than 1 MiB", 0},
		{compressed(tooLong), Nonsense, "longer than 1 MiB", 0},
		{ok + "Content-Encoding: gzip\r\n\r\n{}", Nonsense, "not HTTP", 0},
		{ok + "Content-Length: 9\r\n\r\n{", Nonsense, "cut short", 0},
		{standintest.Canary + "\r\n", Nonsense, "not HTTP", 0},
		{ok + standintest.Canary + "\r\n\r\n", Nonsense, "not HTTP", 0},
		{ok + "A: " + tooLong[:128<<10] + "\r\n\r\n", Nonsense, "not HTTP", 0},
		{"", Unreachable, "connection failed", 0},
		{redirect + "\r\n", Nonsense, "status 307: redirects are not followed", 0},
		{redirect + wait + "\r\n", Nonsense, "status 307", pause},
		{"HTTP/1.1 503 x\r\n" + wait + "\r\n" + tooLong, Nonsense, "longer than 1 MiB", pause},
		{"HTTP/1.1 429 x\r\n" + wait + "\r\n", Throttled, "status 429 (asked to wait 12 s)", pause},
		{"HTTP/1.1 429 x\r\n\r\n", Throttled, "status 429", 0},
	} {
		got, err := getAnswer(t, test.sent)
		failed := wantError(t, err, test.kind, got.Host, test.words)
		asked := strings.Contains(failed.Text, "asked to wait")
		if failed.RetryAfter() != test.pause || asked != (test.pause > 0) {
			t.Errorf("%s: a pause of %v, want %v", failed, failed.RetryAfter(), test.pause)
		}
	}
}

func TestNoMoreIsReadThanIsKept(t *testing.T) {
	body := strings.NewReader(strings.Repeat("x", 2*maxBody))
	resp := &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(body)}
	get(t.Context(), canned{resp: resp}, "auth0.test")
	if read := 2*maxBody - body.Len(); read > maxBody+1 {
		t.Errorf("%d bytes are read, want at most %d", read, maxBody+1)
	}
}

func TestTimeout(t *testing.T) {
	s := standintest.New(t)
	const second = time.Second
	for _, test := range []struct {
		name   string
		fault  standintest.Fault
		cancel time.Duration // when the caller cancels the request
		want   time.Duration
	}{
		{"no answer", standintest.Hang(), time.Minute, 10 * second},
		{"a byte a second", standintest.Drip(second), time.Minute, 10 * second},
		{"canceled before the answer", standintest.Hang(), 3 * second, 3 * second},
		{"canceled within the answer", standintest.Drip(second), 3 * second, 3 * second},
	} {
		synctest.Test(t, func(t *testing.T) {
			s.Tenant.Misbehave(test.fault)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			time.AfterFunc(test.cancel, cancel)
			begun := time.Now()
			_, err := get(ctx, s.Transport(), s.Tenant.Domain())
			if took := time.Since(begun); took != test.want {
				t.Errorf("%s: took %v, want %v", test.name, took, test.want)
			}
			if test.cancel > test.want {
				wantError(t, err, Slow, s.Tenant.Domain(), "within 10s")
			} else if err != context.Canceled {
				t.Errorf("%s: %v, want %v", test.name, err, context.Canceled)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 700_000_000, time.UTC)
	for value, want := range map[string]time.Duration{
		"0": 0, "1": time.Second, "300": maxPause, "301": maxPause, "9999999999999": maxPause,
		"": 0, "-1": 0, "+1": 0, "1.5": 0, "1e3": 0, "1_0": 0, "12s": 0, "soon": 0,
		"Fri, 02 Jan 2026 03:04:17 GMT": 11300 * time.Millisecond,
		"Fri, 02 Jan 2026 03:04:05 GMT": 0, // past
		"Fri, 02 Jan 2099 03:04:05 GMT": maxPause,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("retryAfter(%q) = %v, want %v", value, got, want)
		}
	}
}

func TestUnreachable(t *testing.T) {
	want := func(transport http.RoundTripper, host, words string) {
		t.Helper()
		_, err := get(t.Context(), transport, host)
		wantError(t, err, Unreachable, host, words)
	}
	trusting, host := newServer(t, http.NotFound)
	trusting.TLSClientConfig.RootCAs = x509.NewCertPool()
	want(trusting, host, "certificate is not accepted")

	plain := httptest.NewServer(http.NotFoundHandler())
	host = plain.Listener.Addr().String()
	want(Transport(nil, ""), host, "not a TLS server")
	plain.Close()
	want(Transport(nil, ""), host, "connection refused")

	timeout := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ETIMEDOUT)}
	want(canned{err: timeout}, "auth0.test", "no connection within 8s")
	want(canned{err: errors.New(standintest.Canary)}, "auth0.test", "connection failed")
}

func TestProxy(t *testing.T) {
	const host = "tenant.auth0.test"
	transport := Transport(nil, "v1.2").(*agentTransport)
	req := httptest.NewRequest(http.MethodGet, "https://"+host+"/", nil)
	if got, err := transport.Proxy(req); err != nil || got == nil || got.String() != proxy {
		t.Errorf("the proxy is %v (%v), want HTTPS_PROXY's %s", got, err, proxy)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.UserAgent(); got != "itwin-token-server/v1.2" {
			t.Errorf("the proxy sees the User-Agent %q", got)
		}
		http.Error(w, standintest.Canary, http.StatusProxyAuthRequired)
	}))
	transport.Transport.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(server.URL) }
	_, err := get(t.Context(), transport, host)
	wantError(t, err, Unreachable, host, "the proxy (HTTPS_PROXY) refused to connect: status 407 ")
	server.Close()
	_, err = get(t.Context(), transport, host)
	wantError(t, err, Unreachable, host, "cannot be reached through the proxy (HTTPS_PROXY)")
}

// newResolver returns a resolver whose nameservers do not answer the first queries, and
// say to all others that the name does not exist (RFC 1035 §4.1.1).
func newResolver(silent int32) *net.Resolver {
	var queries atomic.Int32
	dial := func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		if queries.Add(1) > silent {
			go func() {
				query := make([]byte, 512) // the message's length in two bytes, and the message
				n, _ := server.Read(query)
				query[2+2] |= 0x80 // it is a response,
				query[2+3] = 3     // with the code for "name error"
				server.Write(query[:n])
			}()
		}
		return client, nil
	}
	return &net.Resolver{PreferGo: true, Dial: dial}
}

// Go's resolver waits 5 s for an answer, then it asks the next nameserver, or the same
// one again if there is only one.
func TestSilentNameserver(t *testing.T) {
	newResolver(0).LookupHost(t.Context(), "a.test") // package net makes channels: not in a bubble
	resolver := net.DefaultResolver
	defer func() { net.DefaultResolver = resolver }()
	for silent, words := range map[int32]string{
		2:    "no such host", // the first is silent: a query for IPv4 and one for IPv6
		1000: "name look-up timed out",
	} {
		synctest.Test(t, func(t *testing.T) {
			net.DefaultResolver = newResolver(silent)
			transport := Transport(nil, "").(*agentTransport)
			transport.Proxy = nil
			begun := time.Now()
			_, err := get(t.Context(), transport, "auth0.test")
			wantError(t, err, Unreachable, "auth0.test", words)
			if took := time.Since(begun); took > connectTimeout {
				t.Errorf("took %v, want at most %v", took, connectTimeout)
			}
			time.Sleep(10 * time.Second) // the resolver's goroutines end
		})
	}
}
