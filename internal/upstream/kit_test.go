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
	"strings"
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

// ask requests the host's keys.
func ask(ctx context.Context, transport http.RoundTripper, host string) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/.well-known/jwks.json", nil)
	if err != nil {
		return Answer{}, err
	}
	return Do(transport, req)
}

// wantError wants an [*Error] of the kind that names the host and has these words.
func wantError(t *testing.T, err error, kind Kind, host, words string) *Error {
	t.Helper()
	var got *Error
	if !errors.As(err, &got) {
		t.Errorf("got the error %v, want %s with %q", err, kind, words)
		return &Error{}
	}
	if got.Kind != kind || !strings.Contains(got.Text, host) || !strings.Contains(got.Text, words) {
		t.Errorf("got %s %q\nwant %s with %q and %q", got.Kind, got.Text, kind, host, words)
	}
	if strings.Contains(err.Error(), standin.Canary) {
		t.Errorf("the error %q repeats what upstream sent", err)
	}
	return got
}

// template is that of a certificate valid for this hour and 127.0.0.1.
func template() x509.Certificate {
	return x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}

// startTLS serves the canary with a self-signed certificate. It returns host:port,
// and the pool that trusts the certificate.
func startTLS(t *testing.T, certificate x509.Certificate, config *tls.Config) (host string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &certificate, &certificate, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, standin.Canary)
	}))
	server.TLS = config
	server.TLS.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	pool = x509.NewCertPool()
	pool.AddCert(server.Certificate())
	return server.Listener.Addr().String(), pool
}

// listen starts a server that answers each connection's first bytes with text,
// and closes it.
func listen(t *testing.T, text string) (host string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
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
	t.Cleanup(func() { listener.Close(); <-done })
	return listener.Addr().String()
}
