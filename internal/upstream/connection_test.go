package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

// proxy is what the environment says. net/http reads it once.
const proxy = "http://proxy.test:3128"

func TestMain(m *testing.M) {
	os.Setenv("HTTPS_PROXY", proxy)
	os.Unsetenv("NO_PROXY")
	os.Unsetenv("no_proxy")
	os.Exit(m.Run())
}

func TestCertificates(t *testing.T) {
	s := standin.StartForTest(t)
	_, err := ask(t.Context(), Transport(x509.NewCertPool()), s.Tenant.Domain())
	wantError(t, err, Unreachable, s.Tenant.Domain(), "SSL_CERT_FILE")

	for _, test := range []struct {
		name   string
		change func(*x509.Certificate)
		words  string
	}{
		{"for another name", func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{standin.Canary + ".test"} }, "another name"},
		{"expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "clock"},
		{"not begun", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, "clock"},
		{"for clients", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, "not valid for this use"},
	} {
		certificate := template()
		test.change(&certificate)
		host, pool := startTLS(t, certificate, &tls.Config{})
		t.Run(test.name, func(t *testing.T) {
			_, err := ask(t.Context(), Transport(pool), host)
			wantError(t, err, Unreachable, host, test.words)
		})
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	for version, ok := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true} {
		host, pool := startTLS(t, template(), &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: version})
		answer, err := ask(t.Context(), Transport(pool), host)
		switch {
		case !ok:
			wantError(t, err, Unreachable, host, "connection broken")
		case err != nil || string(answer.Body) != standin.Canary:
			t.Errorf("%s: got %q (%v), want an answer", tls.VersionName(version), answer.Body, err)
		}
	}
}

func TestServersWithoutTLS(t *testing.T) {
	for _, test := range []struct{ name, text, words string }{
		{"plain http", "HTTP/1.1 400 " + standin.Canary + "\r\n\r\n", "not a TLS server"},
		{"another protocol", "220 " + standin.Canary + " ESMTP\r\n", "not a TLS server"},
		{"nothing", "", "connection broken"},
	} {
		host := listen(t, test.text)
		t.Run(test.name, func(t *testing.T) {
			_, err := ask(t.Context(), Transport(x509.NewCertPool()), host)
			wantError(t, err, Unreachable, host, test.words)
		})
	}
}

// A connection that an outage left half-dead must not fail the first request
// after it.
func TestEachRequestHasItsOwnConnection(t *testing.T) {
	var conns atomic.Int32
	host, pool := startTLS(t, template(), &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { conns.Add(1); return nil, nil },
	})
	transport := Transport(pool)
	for want := range int32(3) {
		if _, err := ask(t.Context(), transport, host); err != nil || conns.Load() != want+1 {
			t.Errorf("request %d: %d connections so far (%v)", want+1, conns.Load(), err)
		}
	}
}

// through asks by the proxy at this URL.
func through(t *testing.T, s *standin.Standin, proxy string) error {
	t.Helper()
	at, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	transport := Transport(s.Pool()).(*http.Transport)
	transport.Proxy = http.ProxyURL(at)
	_, err = ask(t.Context(), transport, "tenant.auth0.test")
	return err
}

func TestProxy(t *testing.T) {
	s := standin.ForTest(t)
	req := httptest.NewRequest(http.MethodGet, "https://tenant.auth0.test/", nil)
	if got, err := Transport(nil).(*http.Transport).Proxy(req); err != nil || got == nil || got.String() != proxy {
		t.Errorf("the proxy is %v (%v), want HTTPS_PROXY's %s", got, err, proxy)
	}
	var asked atomic.Value
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.Method + " " + r.Host)
		http.Error(w, standin.Canary, http.StatusForbidden)
	}))
	defer refuses.Close()
	wantError(t, through(t, s, refuses.URL), Unreachable, "tenant.auth0.test", "proxy")
	if got := asked.Load(); got != "CONNECT tenant.auth0.test:443" {
		t.Errorf("the proxy was asked for %v, want CONNECT tenant.auth0.test:443", got)
	}
	refuses.Close()
	for name, at := range map[string]string{"refused": refuses.URL, "no TLS": "https://" + listen(t, "")} {
		t.Run(name, func(t *testing.T) {
			wantError(t, through(t, s, at), Unreachable, "tenant.auth0.test", "HTTPS_PROXY")
		})
	}
}

// failing is a transport that returns only this error.
type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

// What a test cannot make happen: by the errors that net/http then returns.
func TestErrorsOfTheNetwork(t *testing.T) {
	for _, test := range []struct {
		name  string
		err   error
		kind  Kind
		words string
	}{
		{"no authorities on the machine", &tls.CertificateVerificationError{Err: x509.SystemRootsError{Err: os.ErrNotExist}}, Unreachable, "ca-certificates"},
		{"a handshake that takes too long", &net.OpError{Op: "remote error", Err: os.ErrDeadlineExceeded}, Slow, "within 10s"},
		{"a connection that takes too long", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ETIMEDOUT)}, Slow, "within 10s"},
		{"no such name", &net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}, Unreachable, "no such host: check the spelling"},
		{"a name server that does not answer", &net.OpError{Op: "dial", Err: &net.DNSError{IsTimeout: true}}, Unreachable, "resolved: check the network"},
		{"no network", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}, Unreachable, "network is unreachable"},
		{"no route", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, Unreachable, "network is unreachable"},
		{"reset", &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, Unreachable, "connection broken"},
		{"anything, quoting upstream", errors.New("malformed: " + standin.Canary), Unreachable, "connection broken"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ask(t.Context(), failing{test.err}, "tenant.auth0.test")
			wantError(t, err, test.kind, "tenant.auth0.test", test.words)
			var dns *net.DNSError
			if got, want := errors.As(err, &dns), errors.As(test.err, &dns); got != want {
				t.Errorf("is a *net.DNSError: %v, want %v", got, want)
			}
		})
	}
}
