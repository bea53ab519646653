package upstream

import (
	"bytes"
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
	"syscall"
	"testing"
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

func TestConnections(t *testing.T) {
	for _, test := range []struct {
		name    string
		change  func(*tls.Config) // of the client's
		version uint16            // the server's newest
		words   string
	}{
		{"good", nil, tls.VersionTLS12, ""},
		{"old TLS", nil, tls.VersionTLS11, "connection failed"},
		{"of an unknown authority", func(c *tls.Config) { c.RootCAs = x509.NewCertPool() }, 0, "SSL_CERT_FILE"},
		{"for another name", func(c *tls.Config) { c.ServerName = "tenant.auth0.test" }, 0, "another name"},
		{"expired", func(c *tls.Config) { c.Time = func() time.Time { return time.Now().AddDate(100, 0, 0) } }, 0, "clock"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) }))
			server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: test.version}
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.StartTLS()
			defer server.Close()
			roots := x509.NewCertPool()
			roots.AddCert(server.Certificate())
			transport := Transport(roots).(*http.Transport)
			if test.change != nil {
				test.change(transport.TLSClientConfig)
			}
			host := server.Listener.Addr().String()
			answer, err := ask(t.Context(), transport, host)
			if test.words != "" {
				wantError(t, err, Unreachable, host, test.words)
				return
			}
			again, err := ask(t.Context(), transport, host)
			if err != nil || len(answer.Body) == 0 || bytes.Equal(again.Body, answer.Body) {
				t.Errorf("answers to %q and %q (%v), want two, over a connection each", answer.Body, again.Body, err)
			}
		})
	}
}

func TestAServerWithoutTLS(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	host := server.Listener.Addr().String()
	_, err := ask(t.Context(), Transport(nil), host)
	wantError(t, err, Unreachable, host, "not a TLS server")
}

func TestProxy(t *testing.T) {
	const host = "tenant.auth0.test"
	transport := Transport(nil).(*http.Transport)
	req := httptest.NewRequest(http.MethodGet, "https://"+host+"/", nil)
	if got, err := transport.Proxy(req); err != nil || got == nil || got.String() != proxy {
		t.Errorf("the proxy is %v (%v), want HTTPS_PROXY's %s", got, err, proxy)
	}
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, standintest.Canary, http.StatusForbidden) }))
	transport.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(refuses.URL) }
	_, err := ask(t.Context(), transport, host)
	wantError(t, err, Unreachable, host, "the proxy")
	refuses.Close()
	_, err = ask(t.Context(), transport, host)
	wantError(t, err, Unreachable, host, "HTTPS_PROXY")
}

// roundTrip is a transport.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// What a test cannot make happen: by the errors that net/http then returns.
func TestErrorsOfTheNetwork(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Err: err} }
	invalid := func(err error) error { return &tls.CertificateVerificationError{Err: err} }
	named := &x509.Certificate{DNSNames: []string{standintest.Canary + ".test"}}
	for _, test := range []struct {
		name  string
		err   error
		kind  Kind
		words string
	}{
		{"no authorities on the machine", invalid(x509.SystemRootsError{Err: os.ErrNotExist}), Unreachable, "ca-certificates"},
		{"a certificate for another name", invalid(x509.HostnameError{Certificate: named, Host: "tenant.auth0.test"}), Unreachable, "another name"},
		{"a certificate for clients", invalid(x509.CertificateInvalidError{Reason: x509.IncompatibleUsage}), Unreachable, "not valid for this use"},
		{"a handshake that takes too long", &net.OpError{Op: "remote error", Err: os.ErrDeadlineExceeded}, Slow, "within 10s"},
		{"a connection that takes too long", dial(os.NewSyscallError("connect", syscall.ETIMEDOUT)), Unreachable, "within 3s"},
		{"no such name", dial(&net.DNSError{IsNotFound: true}), Unreachable, "no such host"},
		{"a name server that does not answer", dial(&net.DNSError{IsTimeout: true}), Unreachable, "no DNS"},
		{"no network", dial(os.NewSyscallError("connect", syscall.ENETUNREACH)), Unreachable, "check the network"},
		{"cut short before the answer", io.ErrUnexpectedEOF, Unreachable, "connection failed"},
		{"anything, quoting upstream", errors.New("malformed: " + standintest.Canary), Unreachable, "connection failed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fails := roundTrip(func(*http.Request) (*http.Response, error) { return nil, test.err })
			_, err := ask(t.Context(), fails, "tenant.auth0.test")
			wantError(t, err, test.kind, "tenant.auth0.test", test.words)
		})
	}
}

func TestNoMoreIsReadThanIsKept(t *testing.T) {
	text := strings.NewReader(strings.Repeat("x", 2*maxBody))
	answers := roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(text)}, nil
	})
	_, err := ask(t.Context(), answers, "upstream.test")
	wantError(t, err, Nonsense, "upstream.test", "longer than 1 MiB")
	if read := 2*maxBody - text.Len(); read > maxBody+1 {
		t.Errorf("%d bytes are read, want at most %d", read, maxBody+1)
	}
}
