package server

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// insecure trusts every certificate.
var insecure = &tls.Config{InsecureSkipVerify: true}

// A pair is the content of two files in PEM: a certificate with the intermediate one that
// signed it, and the key. The root, which signed the intermediate one, is not in a file.
type pair struct {
	chain, key string
	root       *x509.Certificate
}

// newPair makes a pair with the given serial number, valid for as many years.
func newPair(t *testing.T, serial int) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	p := pair{key: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))}
	var issuer *x509.Certificate
	for name, template := range []*x509.Certificate{
		{SerialNumber: big.NewInt(1000), IsCA: true, BasicConstraintsValid: true},
		{SerialNumber: big.NewInt(1001), IsCA: true, BasicConstraintsValid: true},
		{SerialNumber: big.NewInt(int64(serial))},
	} {
		template.Subject.CommonName = strconv.Itoa(name)
		template.NotBefore, template.NotAfter = time.Now(), time.Now().AddDate(serial, 0, 0)
		parent := cmp.Or(issuer, template)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), key)
		must(t, err)
		issuer, err = x509.ParseCertificate(der)
		must(t, err)
		if p.root == nil {
			p.root = issuer
			continue
		}
		p.chain = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) + p.chain
	}
	return p
}

// write writes the pair to dir, as tls.crt and tls.key.
func (p pair) write(t *testing.T, dir string) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	must(t, os.WriteFile(certFile, []byte(p.chain), 0o600))
	must(t, os.WriteFile(keyFile, []byte(p.key), 0o600))
	return certFile, keyFile
}

// load loads the pair from dir.
func (p pair) load(t *testing.T, dir string) *Certificate {
	t.Helper()
	c, err := LoadCertificate(p.write(t, dir))
	must(t, err)
	return c
}

// wantServed checks the serial number of the certificate that a client gets.
func (s *testServer) wantServed(t *testing.T, want int64) {
	t.Helper()
	conn := tls.Client(s.dial(t), insecure)
	must(t, conn.Handshake())
	defer conn.Close()
	chain := conn.ConnectionState().PeerCertificates
	if got := chain[0].SerialNumber.Int64(); got != want || len(chain) != 2 {
		t.Errorf("served the certificate %d in a chain of %d, want %d in one of 2", got, len(chain), want)
	}
}

// A renewed pair is served within a minute. A broken one is logged once, and the previous
// one kept.
func TestCertificateIsReloaded(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		old, next := newPair(t, 1), newPair(t, 2)
		c := old.load(t, dir)
		expiry := c.Expiry()
		s := startServer(t, hello, c)
		time.Sleep(7 * time.Second) // so that no write meets a reload
		const mismatch = "private key does not match"
		for _, test := range []struct{ name, chain, key, want string }{
			{"key not written yet", next.chain, old.key, mismatch},
			{"certificate not written yet", old.chain, next.key, mismatch},
			{"the same error after a good pair", old.chain, next.key, mismatch},
			{"half a certificate", next.chain[:len(next.chain)/4], next.key, "tls.crt"},
			{"half a chain", next.chain[:len(next.chain)*3/4], next.key, "want 2 whole certificates, got 1"},
			{"half a key", next.chain, next.key[:len(next.key)/2], "tls.key"},
		} {
			before := s.log.String()
			pair{chain: test.chain, key: test.key}.write(t, dir)
			for range 3 {
				time.Sleep(time.Minute)
				s.wantServed(t, 1)
			}
			logged := strings.TrimPrefix(s.log.String(), before)
			if strings.Count(logged, "level=ERROR") != 1 || !strings.Contains(logged, test.want) {
				t.Errorf("%s: logged %q, want one error with %s", test.name, logged, test.want)
			}
			for line := range strings.Lines(old.key + next.key) {
				if line[0] != '-' && strings.Contains(logged, line[:16]) {
					t.Errorf("%s: the error %q shows the key", test.name, logged)
				}
			}
			next.write(t, dir)
			time.Sleep(time.Minute)
			if got := c.Expiry(); got.Equal(expiry) { // without a handshake
				t.Errorf("the expiry is still %v", got)
			}
			s.wantServed(t, 2)
			old.write(t, dir)
			time.Sleep(time.Minute)
		}
	})
}

func TestVerify(t *testing.T) {
	p := newPair(t, 1)
	roots := x509.NewCertPool()
	roots.AddCert(p.root)
	leaf := pair{chain: p.chain[:strings.LastIndex(p.chain, "-----BEGIN")], key: p.key}
	if err := p.load(t, t.TempDir()).verify(roots); err != nil {
		t.Errorf("with its intermediate certificate: %v, want nil", err)
	}
	if err := leaf.load(t, t.TempDir()).verify(roots); err == nil {
		t.Error("without its intermediate certificate: nil, want an error")
	}
	if err := p.load(t, t.TempDir()).Verify(); err == nil {
		t.Error("with a root that this machine does not know: nil, want an error")
	}
}

// TLS 1.2 or newer is spoken, and HTTP/1.1 only.
func TestTLSVersions(t *testing.T) {
	for _, test := range []struct {
		name    string
		version uint16
		offered []string
		want    string // protocol
		refused bool
	}{
		{"TLS 1.1", tls.VersionTLS11, nil, "", true},
		{"TLS 1.2", tls.VersionTLS12, nil, "", false},
		{"TLS 1.3", tls.VersionTLS13, nil, "", false},
		{"a browser", tls.VersionTLS13, []string{"h2", "http/1.1"}, "http/1.1", false},
		{"HTTP/2 only", tls.VersionTLS13, []string{"h2"}, "", true},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := startServer(t, hello, newPair(t, 1).load(t, t.TempDir()))
			conn := tls.Client(s.dial(t), &tls.Config{
				InsecureSkipVerify: true, NextProtos: test.offered,
				MinVersion: test.version, MaxVersion: test.version,
			})
			if err := conn.Handshake(); (err != nil) != test.refused {
				t.Errorf("%s: handshake: %v, want an error: %v", test.name, err, test.refused)
			}
			if got := conn.ConnectionState().NegotiatedProtocol; got != test.want {
				t.Errorf("%s: protocol %q, want %q", test.name, got, test.want)
			}
			if !test.refused {
				wantStatus(t, test.name, send(conn, request), 200)
			}
		})
	}
}
