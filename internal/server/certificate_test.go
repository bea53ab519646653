package server

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// insecure trusts every certificate.
var insecure = &tls.Config{InsecureSkipVerify: true}

// newPair returns the content of two files: a server's certificate, valid for so many years,
// with the intermediate certificate that signed it, and the key. The root signed the latter.
func newPair(years int) (chain, key string, root *x509.Certificate) {
	private := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	var parent *x509.Certificate
	for _, name := range []string{"root", "intermediate", "server"} {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now(), NotAfter: time.Now().AddDate(years, 0, 0),
			IsCA: name != "server", BasicConstraintsValid: true,
		}
		parent = cmp.Or(parent, template) // the root signs itself
		der := must(x509.CreateCertificate(rand.Reader, template, parent, private.Public(), private))
		parent = must(x509.ParseCertificate(der))
		root = cmp.Or(root, parent)
		if name != "root" {
			chain = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) + chain
		}
	}
	der := must(x509.MarshalPKCS8PrivateKey(private))
	return chain, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), root
}

// writePair writes the files to dir.
func writePair(dir, chain, key string) (certFile, keyFile string) {
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	os.WriteFile(certFile, []byte(chain), 0o600)
	os.WriteFile(keyFile, []byte(key), 0o600)
	return certFile, keyFile
}

// newCertificate returns any certificate.
func newCertificate(t *testing.T) *Certificate {
	chain, key, _ := newPair(1)
	return must(LoadCertificate(writePair(t.TempDir(), chain, key)))
}

// A renewed pair is served within a minute. A broken one is logged, and the previous one kept.
func TestCertificateIsReloaded(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { // it is the year 2000
		oldChain, oldKey, _ := newPair(1)
		newChain, newKey, _ := newPair(2)
		c := must(LoadCertificate(writePair(dir, oldChain, oldKey)))
		s := startServer(t, hello, c)
		time.Sleep(7 * time.Second) // so that no write meets a reload
		wantServed := func(name string, want int) {
			t.Helper()
			conn := tls.Client(s.dial(t), insecure)
			wantResponse(t, name, conn, request, response{200, false})
			served := conn.ConnectionState().PeerCertificates[0].NotAfter.Year()
			if expiry := c.Expiry().Year(); served != want || expiry != want {
				t.Errorf("%s: served that of %d, Expiry of %d, want %d", name, served, expiry, want)
			}
		}
		for _, test := range []struct{ name, chain, key, want string }{
			{"key not written yet", newChain, oldKey, "does not match"},
			{"half a certificate", newChain[:len(newChain)/4], newKey, "tls.crt"},
			{"half a chain", newChain[:len(newChain)*3/4], newKey, "want 2 whole certificates"},
			{"half a key", newChain, newKey[:len(newKey)/2], "tls.key"},
			{"too long", newChain + strings.Repeat("\n", 64<<10), newKey, "not a regular file"},
		} {
			before := s.log.String()
			writePair(dir, test.chain, test.key)
			time.Sleep(time.Minute)
			wantServed(test.name, 2001)
			logged := strings.TrimPrefix(s.log.String(), before)
			if !strings.Contains(logged, "level=ERROR") || !strings.Contains(logged, test.want) {
				t.Errorf("%s: logged %q, want an error with %s", test.name, logged, test.want)
			}
		}
		writePair(dir, newChain, newKey)
		time.Sleep(time.Minute)
		wantServed("a renewed pair", 2002)
	})
}

func TestVerify(t *testing.T) {
	chain, key, root := newPair(1)
	roots := x509.NewCertPool()
	roots.AddCert(root)
	c := must(LoadCertificate(writePair(t.TempDir(), chain, key)))
	chain = chain[:strings.LastIndex(chain, "-----BEGIN")]
	alone := must(LoadCertificate(writePair(t.TempDir(), chain, key)))
	if err := c.Verify(roots); err != nil {
		t.Errorf("with its intermediate certificate: %v, want nil", err)
	}
	if err := alone.Verify(roots); err == nil {
		t.Error("without its intermediate certificate: nil, want an error")
	}
	if err := c.Verify(nil); err == nil {
		t.Error("with a root that this machine does not know: nil, want an error")
	}
}

// TLS 1.2 or newer is spoken, and HTTP/1.1 only.
func TestTLSVersions(t *testing.T) {
	ok, none := response{status: 200}, response{}
	for _, test := range []struct {
		name    string
		version uint16
		offered []string
		want    response
	}{
		{"TLS 1.1", tls.VersionTLS11, nil, none},
		{"TLS 1.2", tls.VersionTLS12, nil, ok},
		{"a browser", tls.VersionTLS13, []string{"h2", "http/1.1"}, ok},
		{"HTTP/2 only", tls.VersionTLS13, []string{"h2"}, none},
	} {
		synctest.Test(t, func(t *testing.T) {
			conn := tls.Client(startServer(t, hello, newCertificate(t)).dial(t), &tls.Config{
				InsecureSkipVerify: true, NextProtos: test.offered,
				MinVersion: test.version, MaxVersion: test.version,
			})
			wantResponse(t, test.name, conn, request, test.want)
		})
	}
}
