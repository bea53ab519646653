package upstream

import (
	"context"
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
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

// world is where every test's stand-ins have their keys from.
var world = sync.OnceValues(standin.New)

// proxied is where the proxy of the tests connects to, whatever it is asked for.
// It is named by HTTPS_PROXY for the whole run, since net/http reads that once;
// hosts on loopback are never proxied.
var proxied struct {
	to    atomic.Pointer[string]
	asked atomic.Pointer[string] // the last host that it was asked for
}

func TestMain(m *testing.M) {
	proxy := httptest.NewServer(http.HandlerFunc(connect))
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		os.Setenv(name, proxy.URL)
	}
	for _, name := range []string{"NO_PROXY", "no_proxy"} {
		os.Unsetenv(name)
	}
	code := m.Run()
	proxy.Close()
	os.Exit(code)
}

// connect is a proxy that knows CONNECT (RFC 9110 §9.3.6) alone.
func connect(w http.ResponseWriter, r *http.Request) {
	asked := r.Method + " " + r.Host
	proxied.asked.Store(&asked)
	to := proxied.to.Load()
	if to == nil {
		http.Error(w, standin.Canary, http.StatusForbidden)
		return
	}
	server, err := net.Dial("tcp", *to)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer server.Close()
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
	go io.Copy(server, client)
	io.Copy(client, server)
}

func newStandin(t *testing.T) *standin.Standin {
	t.Helper()
	base, err := world()
	if err != nil {
		t.Fatal(err)
	}
	s, err := base.Fresh()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func started(t *testing.T) *standin.Standin {
	t.Helper()
	s := newStandin(t)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// ask asks the host for its keys.
func ask(ctx context.Context, transport http.RoundTripper, host string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "https://"+host+"/.well-known/jwks.json", nil)
	if err != nil {
		return 0, "", err
	}
	status, b, err := Do(transport, req)
	return status, string(b), err
}

// wantError wants an [*Error] of the kind, with the text after the host's name.
func wantError(t *testing.T, err error, kind Kind, host, text string) {
	t.Helper()
	var got *Error
	if !errors.As(err, &got) {
		t.Errorf("got the error %v, want %s %q", err, kind, text)
		return
	}
	if want := host + ": " + text; got.Kind != kind || got.Text != want {
		t.Errorf("got %s %q\nwant %s %q", got.Kind, got.Text, kind, want)
	}
	if strings.Contains(err.Error(), standin.Canary) {
		t.Errorf("the error %q repeats what upstream said", err)
	}
}

// selfSigned is a certificate that vouches for itself.
func selfSigned(t *testing.T, template x509.Certificate) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// startTLS serves over sockets with the configuration; it returns host:port.
func startTLS(t *testing.T, config *tls.Config) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, standin.Canary)
	}))
	server.TLS = config
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// hear runs a server that does with each connection what it likes, and closes it.
func hear(t *testing.T, each func(net.Conn)) (host string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer conn.Close(); each(conn) })
		}
	})
	t.Cleanup(func() { listener.Close(); all.Wait() })
	return listener.Addr().String()
}

// now is a certificate's template that is good for this hour and 127.0.0.1.
func now() x509.Certificate {
	return x509.Certificate{
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}
