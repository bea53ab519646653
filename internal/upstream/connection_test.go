package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
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

// startTLS serves the canary with a self-signed certificate, valid for this hour and
// 127.0.0.1 but for the change. It returns host:port and a transport that trusts it.
func startTLS(t *testing.T, change func(*x509.Certificate), config *tls.Config) (host string, transport http.RoundTripper) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(certificate)
	}
	der, err := x509.CreateCertificate(rand.Reader, certificate, certificate, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, standin.Canary) }))
	config.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	server.TLS = config
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	return server.Listener.Addr().String(), Transport(pool)
}

// listen starts a server that answers each connection's first bytes with text,
// and closes it.
func listen(t *testing.T, text string) (host string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 1<<10)) // the client's hello, or closing would reset what is sent
			io.WriteString(conn, text)
			conn.Close()
		}
	}()
	return listener.Addr().String()
}

func TestCertificatesAndTLSVersions(t *testing.T) {
	s := standin.StartForTest(t)
	_, err := ask(t.Context(), Transport(x509.NewCertPool()), s.Tenant.Domain())
	wantError(t, err, Unreachable, s.Tenant.Domain(), "SSL_CERT_FILE")
	for _, test := range []struct {
		name    string
		change  func(*x509.Certificate)
		version uint16
		words   string
	}{
		{"good", nil, tls.VersionTLS12, ""},
		{"old TLS", nil, tls.VersionTLS11, "connection failed"},
		{"for another name", func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{standin.Canary + ".test"} }, 0, "another name"},
		{"expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, 0, "clock"},
		{"not begun", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, 0, "clock"},
		{"for clients", func(c *x509.Certificate) { c.ExtKeyUsage[0] = x509.ExtKeyUsageClientAuth }, 0, "not valid for this use"},
	} {
		t.Run(test.name, func(t *testing.T) {
			host, transport := startTLS(t, test.change, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: test.version})
			answer, err := ask(t.Context(), transport, host)
			if test.words != "" {
				wantError(t, err, Unreachable, host, test.words)
			} else if err != nil || string(answer.Body) != standin.Canary {
				t.Errorf("got %q (%v), want an answer", answer.Body, err)
			}
		})
	}
}

func TestServersWithoutTLS(t *testing.T) {
	for text, words := range map[string]string{
		"HTTP/1.1 400 " + standin.Canary + "\r\n\r\n": "not a TLS server",
		"220 " + standin.Canary + " ESMTP\r\n":        "not a TLS server",
		"":                                            "connection failed",
	} {
		host := listen(t, text)
		_, err := ask(t.Context(), Transport(x509.NewCertPool()), host)
		wantError(t, err, Unreachable, host, words)
	}
}

// A connection that an outage left half-dead must not fail the first request
// after it.
func TestEachRequestHasItsOwnConnection(t *testing.T) {
	var conns atomic.Int32
	host, transport := startTLS(t, nil, &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { conns.Add(1); return nil, nil },
	})
	for want := range int32(3) {
		if _, err := ask(t.Context(), transport, host); err != nil || conns.Load() != want+1 {
			t.Errorf("request %d: %d connections so far (%v)", want+1, conns.Load(), err)
		}
	}
}

func TestProxy(t *testing.T) {
	const host = "tenant.auth0.test"
	req := httptest.NewRequest(http.MethodGet, "https://"+host+"/", nil)
	if got, err := Transport(nil).(*http.Transport).Proxy(req); err != nil || got == nil || got.String() != proxy {
		t.Errorf("the proxy is %v (%v), want HTTPS_PROXY's %s", got, err, proxy)
	}
	var asked atomic.Value
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.Method + " " + r.Host)
		http.Error(w, standin.Canary, http.StatusForbidden)
	}))
	defer refuses.Close()
	through := func(address, words string) {
		t.Helper()
		at, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		transport := Transport(nil).(*http.Transport)
		transport.Proxy = http.ProxyURL(at)
		_, err = ask(t.Context(), transport, host)
		wantError(t, err, Unreachable, host, words)
	}
	through(refuses.URL, "the proxy")
	if got := asked.Load(); got != "CONNECT "+host+":443" {
		t.Errorf("the proxy was asked for %v, want CONNECT %s:443", got, host)
	}
	refuses.Close()
	through(refuses.URL, "HTTPS_PROXY")
	through("https://"+listen(t, ""), "HTTPS_PROXY")
}

// failing is a transport that returns only this error.
type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

// What a test cannot make happen: by the errors that net/http then returns.
func TestErrorsOfTheNetwork(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Err: err} }
	for _, test := range []struct {
		name  string
		err   error
		kind  Kind
		words string
	}{
		{"no authorities on the machine", &tls.CertificateVerificationError{Err: x509.SystemRootsError{Err: os.ErrNotExist}}, Unreachable, "ca-certificates"},
		{"a handshake that takes too long", &net.OpError{Op: "remote error", Err: os.ErrDeadlineExceeded}, Slow, "within 10s"},
		{"a connection that takes too long", dial(os.NewSyscallError("connect", syscall.ETIMEDOUT)), Slow, "within 10s"},
		{"no such name", dial(&net.DNSError{IsNotFound: true}), Unreachable, "no such host"},
		{"a name server that does not answer", dial(&net.DNSError{IsTimeout: true}), Unreachable, "no DNS"},
		{"no network", dial(os.NewSyscallError("connect", syscall.ENETUNREACH)), Unreachable, "check the network"},
		{"reset", &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, Unreachable, "connection failed"},
		{"anything, quoting upstream", errors.New("malformed: " + standin.Canary), Unreachable, "connection failed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ask(t.Context(), failing{test.err}, "tenant.auth0.test")
			wantError(t, err, test.kind, "tenant.auth0.test", test.words)
		})
	}
}
