package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

const reloadInterval = 30 * time.Second // a renewed certificate must be used within a minute

// A Certificate is a TLS certificate, its chain and its key, read from PEM files.
// [Run] reads them every 30 s; the last good pair is used until there is another.
type Certificate struct {
	certFile, keyFile string
	pair              atomic.Pointer[tls.Certificate] // never nil
}

// LoadCertificate reads the files. It opens them by name, so it also sees a renewal
// where a symbolic link is what changes. Its errors name the files and show nothing
// of their content; that of a file that cannot be read wraps an [os.PathError].
func LoadCertificate(certFile, keyFile string) (*Certificate, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("%s with %s: %w (the server's certificate must be the first, "+
			"and the key without a passphrase)", certFile, keyFile, err)
	}
	chain, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	// A file that is still being written has a whole leaf and half a chain, which
	// few clients would accept. crypto/tls ignores what it cannot decode.
	want := bytes.Count(chain, []byte("-----BEGIN CERTIFICATE-----"))
	if got := len(pair.Certificate); got != want {
		return nil, fmt.Errorf("%s: want %d whole certificates, got %d", certFile, want, got)
	}
	c := &Certificate{certFile: certFile, keyFile: keyFile}
	c.pair.Store(&pair)
	return c, nil
}

// reload reads the files at each interval until ctx ends. It logs an error once,
// not each time.
func (c *Certificate) reload(ctx context.Context, log *slog.Logger) {
	tick, last := time.Tick(reloadInterval), ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		renewed, err := LoadCertificate(c.certFile, c.keyFile)
		if err == nil {
			c.pair.Store(renewed.pair.Load())
		} else if err.Error() != last {
			log.Error("the TLS certificate cannot be used; keeping the previous one", "error", err)
		}
		last = fmt.Sprint(err)
	}
}

// config returns the settings of TLS, with the certificate in use. They offer clients
// HTTP/1.1 only: an answer of a few headers and a token gains nothing from HTTP/2.
func (c *Certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.pair.Load(), nil
		},
	}
}

// Expiry returns when the certificate in use expires.
func (c *Certificate) Expiry() time.Time { return c.pair.Load().Leaf.NotAfter }

// Verify returns an error if this machine would not accept the certificate in use from
// another server, whatever its name: often an intermediate certificate is missing.
func (c *Certificate) Verify() error { return c.verify(nil) }

// verify is Verify with the authorities to trust; nil means those of the system.
func (c *Certificate) verify(roots *x509.CertPool) error {
	pair, intermediates := c.pair.Load(), x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		intermediates.AddCert(certificate)
	}
	_, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates})
	return err
}
