package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"itwin-token-server/internal/settings"
)

const reloadInterval = 30 * time.Second // a renewed certificate must be used within a minute

// A Certificate is a TLS certificate, its chain and its key, read from PEM files.
// [Run] reads them every 30 s; the last good pair is used until there is another.
type Certificate struct {
	certFile, keyFile string
	current           atomic.Pointer[loaded] // never nil
}

// loaded is what a good pair of files contains.
type loaded struct {
	pair  tls.Certificate
	chain string // in PEM
}

// LoadCertificate reads the files, as [settings.ReadFile] does: [Run] must not wait for a
// FIFO, or read a device. Its errors name the files and show nothing of their content.
func LoadCertificate(certFile, keyFile string) (*Certificate, error) {
	chain, certErr := settings.ReadFile(certFile)
	key, keyErr := settings.ReadFile(keyFile)
	pair, pairErr := tls.X509KeyPair([]byte(chain), []byte(key))
	if err := cmp.Or(certErr, keyErr, pairErr); err != nil {
		return nil, fmt.Errorf("%s with %s: %v (the server's certificate must be the first, "+
			"and the key without a passphrase)", certFile, keyFile, err)
	}
	// A file that is still being written has a whole leaf and half a chain, which
	// few clients would accept. crypto/tls ignores what it cannot decode.
	want := strings.Count(chain, "-----BEGIN CERTIFICATE-----")
	if len(pair.Certificate) != want {
		return nil, fmt.Errorf("%s: want %d whole certificates, got %d",
			certFile, want, len(pair.Certificate))
	}
	c := &Certificate{certFile: certFile, keyFile: keyFile}
	c.current.Store(&loaded{pair, chain})
	return c, nil
}

// reload reads the files at each interval until ctx ends.
func (c *Certificate) reload(ctx context.Context, log *slog.Logger) {
	tick := time.Tick(reloadInterval)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		renewed, err := LoadCertificate(c.certFile, c.keyFile)
		if err != nil {
			log.Error("the TLS certificate cannot be used; keeping the previous one", "error", err)
		} else {
			c.current.Store(renewed.current.Load())
		}
	}
}

// config returns the settings of TLS, with the certificate in use. They offer clients
// HTTP/1.1 only: an answer of a few headers and a token gains nothing from HTTP/2.
func (c *Certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &c.current.Load().pair, nil
		},
	}
}

// Expiry returns when the certificate in use expires.
func (c *Certificate) Expiry() time.Time { return c.current.Load().pair.Leaf.NotAfter }

// Verify returns an error if a client that trusts the roots, those of the system if nil,
// would not accept the certificate in use, whatever its name: often an intermediate
// certificate is missing.
func (c *Certificate) Verify(roots *x509.CertPool) error {
	current, intermediates := c.current.Load(), x509.NewCertPool()
	intermediates.AppendCertsFromPEM([]byte(current.chain))
	_, err := current.pair.Leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates,
	})
	return err
}
