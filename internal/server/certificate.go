package server

import (
	"bytes"
	"context"
	"crypto/tls"
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
		return nil, fmt.Errorf("%s with %s: %w (the server's certificate must be the first, and the key without a passphrase)", certFile, keyFile, err)
	}
	chain, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	// A file that is still being written has a whole leaf and half a chain, which
	// few clients would accept. crypto/tls ignores what it cannot decode.
	if want := bytes.Count(chain, []byte("-----BEGIN CERTIFICATE-----")); want != len(pair.Certificate) {
		return nil, fmt.Errorf("%s: want %d whole certificates, got %d", certFile, want, len(pair.Certificate))
	}
	c := &Certificate{certFile: certFile, keyFile: keyFile}
	c.pair.Store(&pair)
	return c, nil
}

// reload reads the files at each interval until ctx ends. It logs an error once,
// not each time.
func (c *Certificate) reload(ctx context.Context, log *slog.Logger) {
	tick, logged := time.Tick(reloadInterval), ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		renewed, err := LoadCertificate(c.certFile, c.keyFile)
		if err == nil {
			c.pair.Store(renewed.pair.Load())
			logged = ""
		} else if err.Error() != logged {
			log.Error("the TLS certificate cannot be used; keeping the previous one", "error", err)
			logged = err.Error()
		}
	}
}

// get is for [tls.Config].
func (c *Certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil }

// Expiry returns when the certificate in use expires.
func (c *Certificate) Expiry() time.Time { return c.pair.Load().Leaf.NotAfter }
