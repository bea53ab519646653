package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

func TestCertificates(t *testing.T) {
	s := started(t)
	_, _, err := ask(t.Context(), Transport(x509.NewCertPool()), s.Tenant.Domain())
	wantError(t, err, Unreachable, s.Tenant.Domain(), authority)

	for _, test := range []struct {
		name   string
		change func(*x509.Certificate)
		text   string
	}{
		{"for another name", func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{standin.Canary + ".test"} }, otherName},
		{"expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, invalid},
		{"not begun", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, invalid},
		{"for clients", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, invalid},
	} {
		template := now()
		test.change(&template)
		certificate, pool := selfSigned(t, template)
		host := startTLS(t, &tls.Config{Certificates: []tls.Certificate{certificate}})
		t.Run(test.name, func(t *testing.T) {
			_, _, err := ask(t.Context(), Transport(pool), host)
			wantError(t, err, Unreachable, host, test.text)
		})
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	certificate, pool := selfSigned(t, now())
	for version, ok := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true} {
		host := startTLS(t, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS10, MaxVersion: version})
		_, body, err := ask(t.Context(), Transport(pool), host)
		switch {
		case !ok:
			wantError(t, err, Unreachable, host, broken)
		case err != nil || body != standin.Canary:
			t.Errorf("%s: got %q (%v), want an answer", tls.VersionName(version), body, err)
		}
	}
}

func TestWhatIsNoTLS(t *testing.T) {
	for _, test := range []struct{ name, says, text string }{
		{"plain http", "HTTP/1.1 400 " + standin.Canary + "\r\n\r\n", noTLS},
		{"another protocol", "220 " + standin.Canary + " ESMTP\r\n", noTLS},
		{"nothing", "", broken},
	} {
		host := hear(t, func(conn net.Conn) {
			conn.Read(make([]byte, 1<<10)) // the client's hello, or closing would reset what is said
			io.WriteString(conn, test.says)
		})
		t.Run(test.name, func(t *testing.T) {
			_, _, err := ask(t.Context(), Transport(x509.NewCertPool()), host)
			wantError(t, err, Unreachable, host, test.text)
		})
	}
}

// What an outage has left half-dead must not fail the first request after it.
func TestEachRequestHasItsOwnConnection(t *testing.T) {
	certificate, pool := selfSigned(t, now())
	var conns atomic.Int32
	host := startTLS(t, &tls.Config{
		Certificates:       []tls.Certificate{certificate},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { conns.Add(1); return nil, nil },
	})
	transport := Transport(pool)
	for want := range int32(3) {
		if _, _, err := ask(t.Context(), transport, host); err != nil || conns.Load() != want+1 {
			t.Errorf("request %d: %d connections so far (%v)", want+1, conns.Load(), err)
		}
	}
}

func TestProxy(t *testing.T) {
	s := started(t)
	const host = "tenant.auth0.test" // not on loopback, so by HTTPS_PROXY
	to := s.Tenant.Domain()
	proxied.to.Store(&to)
	_, body, err := ask(t.Context(), Transport(s.Pool()), host)
	if err != nil || body != string(s.Tenant.JWKS()) {
		t.Errorf("got %q (%v), want the keys", body, err)
	}
	if asked := *proxied.asked.Load(); asked != "CONNECT "+host+":443" {
		t.Errorf("the proxy was asked for %q, want CONNECT %s:443", asked, host)
	}

	proxied.to.Store(nil) // it refuses, with the canary
	_, _, err = ask(t.Context(), Transport(s.Pool()), host)
	wantError(t, err, Unreachable, host, broken)
}

func TestProxyThatIsDown(t *testing.T) {
	dead := hear(t, func(net.Conn) {})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	for name, at := range map[string]string{"refused": "http://" + listener.Addr().String(), "no TLS": "https://" + dead} {
		proxy, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		transport := Transport(nil).(*http.Transport)
		transport.Proxy = http.ProxyURL(proxy)
		t.Run(name, func(t *testing.T) {
			_, _, err := ask(t.Context(), transport, "tenant.auth0.test")
			wantError(t, err, Unreachable, "tenant.auth0.test", noProxy)
		})
	}
}
