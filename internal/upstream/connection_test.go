package upstream

import (
	"context"
	"crypto/tls"
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
	os.Unsetenv("NO_PROXY")
	os.Unsetenv("no_proxy")
	os.Exit(m.Run())
}

// get requests the keys of a host.
func get(ctx context.Context, transport http.RoundTripper, host string) (Answer, error) {
	url := "https://" + host + "/.well-known/jwks.json"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return Answer{}, err
	}
	return Do(transport, req)
}

// wantError wants an [*Error] of the kind that names the host and has these words.
func wantError(t *testing.T, err error, kind Kind, host, words string) *Error {
	t.Helper()
	failed, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("got %v, want an *Error", err)
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

// newServer returns a TLS server that sends this answer, as it is, to each request, and
// a transport that trusts it.
func newServer(t *testing.T, answer string) (*agentTransport, string) {
	t.Helper()
	return startServer(t, new(tls.Config), func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(conn, answer)
		conn.Close()
	})
}

func startServer(t *testing.T, c *tls.Config, handler http.HandlerFunc) (*agentTransport, string) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.TLS = c
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return Transport(roots, "v1.2").(*agentTransport), server.Listener.Addr().String()
}

func TestTLS(t *testing.T) {
	inACentury := func() time.Time { return time.Now().AddDate(100, 0, 0) }
	for _, test := range []struct {
		name   string
		newest uint16            // version of TLS that the server speaks
		change func(*tls.Config) // the client's
		words  string            // of the error
	}{
		{"TLS 1.2", tls.VersionTLS12, func(*tls.Config) {}, ""},
		{"TLS 1.1", tls.VersionTLS11, func(*tls.Config) {}, "connection failed"},
		{"unknown authority", 0, func(c *tls.Config) { c.RootCAs = x509.NewCertPool() }, "SSL_CERT_FILE"},
		{"another name", 0, func(c *tls.Config) { c.ServerName = "auth0.test" }, "another name"},
		{"expired", 0, func(c *tls.Config) { c.Time = inACentury }, "clock"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: test.newest}
			transport, host := startServer(t, c, func(http.ResponseWriter, *http.Request) {})
			test.change(transport.TLSClientConfig)
			_, err := get(t.Context(), transport, host)
			if test.words != "" {
				wantError(t, err, Unreachable, host, test.words)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	host := plain.Listener.Addr().String()
	_, err := get(t.Context(), Transport(nil, ""), host)
	wantError(t, err, Unreachable, host, "not a TLS server")
}

func TestRequest(t *testing.T) {
	var agent string
	var closes bool
	handler := func(_ http.ResponseWriter, r *http.Request) { agent, closes = r.UserAgent(), r.Close }
	transport, host := startServer(t, new(tls.Config), handler)
	if _, err := get(t.Context(), transport, host); err != nil {
		t.Fatal(err)
	}
	if want := "itwin-token-server/v1.2"; agent != want {
		t.Errorf("the User-Agent is %q, want %q", agent, want)
	}
	if !closes {
		t.Error("the connection is kept for another request, want one for each")
	}
}

func TestProxy(t *testing.T) {
	const host = "tenant.auth0.test"
	transport := Transport(nil, "v1.2").(*agentTransport)
	req := httptest.NewRequest(http.MethodGet, "https://"+host+"/", nil)
	if got, err := transport.Proxy(req); err != nil || got == nil || got.String() != proxy {
		t.Errorf("the proxy is %v (%v), want HTTPS_PROXY's %s", got, err, proxy)
	}
	for status, words := range map[int]string{
		403: "the proxy (HTTPS_PROXY) refused to connect: status 403 Forbidden",
		407: "the proxy (HTTPS_PROXY) refused to connect: status 407 Proxy Authentication Required",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if got := r.UserAgent(); got != "itwin-token-server/v1.2" {
				t.Errorf("the proxy sees the User-Agent %q", got)
			}
			http.Error(w, standintest.Canary, status)
		}))
		transport.Transport.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(server.URL) }
		_, err := get(t.Context(), transport, host)
		wantError(t, err, Unreachable, host, words)
		server.Close()
		_, err = get(t.Context(), transport, host)
		wantError(t, err, Unreachable, host, "cannot be reached through the proxy (HTTPS_PROXY)")
	}
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
	for _, test := range []struct {
		name   string
		silent int32 // queries without an answer
		words  string
	}{
		{"the first", 2, "no such host"}, // a query for IPv4 and one for IPv6
		{"all", 1000, "name look-up timed out: check the nameservers"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net.DefaultResolver = newResolver(test.silent)
				transport := Transport(nil, "").(*agentTransport)
				transport.Proxy = nil
				begun := time.Now()
				_, err := get(t.Context(), transport, "auth0.test")
				wantError(t, err, Unreachable, "auth0.test", test.words)
				if took := time.Since(begun); took > connectTimeout {
					t.Errorf("took %v, want at most %v", took, connectTimeout)
				}
				time.Sleep(10 * time.Second) // the resolver's goroutines end
			})
		})
	}
}

// roundTrip is a transport.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Errors of net/http that a test cannot make happen.
func TestNetworkErrors(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Err: err} }
	invalid := func(err error) error { return &tls.CertificateVerificationError{Err: err} }
	syscallError := func(err error) error { return os.NewSyscallError("connect", err) }
	other := &x509.Certificate{DNSNames: []string{standintest.Canary + ".test"}}
	for _, test := range []struct {
		err   error
		kind  Kind
		words string
	}{
		{invalid(x509.SystemRootsError{Err: os.ErrNotExist}), Unreachable, "ca-certificates"},
		{invalid(x509.HostnameError{Certificate: other, Host: "a.test"}), Unreachable, "another name"},
		{&net.OpError{Op: "remote error", Err: os.ErrDeadlineExceeded}, Slow, "within 10s"},
		{dial(syscallError(syscall.ETIMEDOUT)), Unreachable, "within 8s"},
		{dial(syscallError(syscall.ECONNREFUSED)), Unreachable, "connection refused"},
		{dial(&net.DNSError{IsNotFound: true}), Unreachable, "no such host"},
		{io.ErrUnexpectedEOF, Unreachable, "connection failed"},
		{errors.New("tls: " + standintest.Canary), Unreachable, "connection failed"},
	} {
		fails := roundTrip(func(*http.Request) (*http.Response, error) { return nil, test.err })
		_, err := get(t.Context(), fails, "auth0.test")
		wantError(t, err, test.kind, "auth0.test", test.words)
	}
}
