package server

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// certificateInterval is how often the files are read at most: a renewed
	// certificate must be used within a minute.
	certificateInterval = 30 * time.Second

	// expiryWarning is how long before its expiry a certificate causes a warning:
	// whatever renews it should have done so by then. For a short-lived one it is
	// a tenth of its life.
	expiryWarning = 14 * 24 * time.Hour
)

// A Certificate is a TLS certificate and its key, read from files and read again
// when they change. The last good pair is used until there is another.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	pair              atomic.Pointer[tls.Certificate] // never nil

	mu      sync.Mutex // guards what follows; only ever tried, never waited for
	checked time.Time  // when the files were last read
	fault   string     // why they could not be used then; empty if they could
}

// NewCertificate reads the files. Its error is that of [LoadCertificate].
func NewCertificate(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	pair, err := LoadCertificate(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log, checked: time.Now()}
	c.pair.Store(pair)
	return c, nil
}

// GetCertificate is for [tls.Config].
func (c *Certificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current(), nil
}

// Expiry returns when the certificate in use expires.
func (c *Certificate) Expiry() time.Time { return c.current().Leaf.NotAfter }

// current returns the pair in use, after a look at the files if that is due. One
// caller reads them; the others get the pair there is at once.
func (c *Certificate) current() *tls.Certificate {
	if c.mu.TryLock() {
		if time.Since(c.checked) >= certificateInterval {
			c.reload()
		}
		c.mu.Unlock()
	}
	return c.pair.Load()
}

// reload reads the files. It opens them by name each time, so it also sees a
// renewal where a symbolic link is what changes.
func (c *Certificate) reload() {
	pair, err := LoadCertificate(c.certFile, c.keyFile)
	c.checked = time.Now()
	if err == nil {
		c.pair.Store(pair)
		c.fault = ""
		return
	}
	if err.Error() != c.fault { // logged once, not at every look
		c.log.Error("the TLS certificate cannot be used; keeping the previous one", "error", err)
	}
	c.fault = err.Error()
}

// LoadCertificate reads a certificate, its chain and its key from PEM files. Its
// errors name the files and show nothing of their content.
func LoadCertificate(certFile, keyFile string) (*tls.Certificate, error) {
	if strings.Contains(certFile+keyFile, "-----BEGIN") {
		return nil, errors.New("want the names of two files, got the content of one (not shown: it may be the key)")
	}
	chain, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%s with %s: %w", certFile, keyFile, err)
	}
	// A file that is still being written has a whole leaf and half a chain, which
	// few clients would accept. crypto/tls ignores what it cannot decode.
	if want := bytes.Count(chain, []byte("-----BEGIN CERTIFICATE-----")); want != len(pair.Certificate) {
		return nil, fmt.Errorf("%s: want %d whole certificates, got %d", certFile, want, len(pair.Certificate))
	}
	return &pair, nil
}

// ExpiryWarning returns a warning about a certificate that has expired, expires
// soon or is not valid yet; it is empty for any other.
func ExpiryWarning(pair *tls.Certificate) string {
	start, expiry := pair.Leaf.NotBefore, pair.Leaf.NotAfter
	left := time.Until(expiry)
	switch {
	case left <= 0:
		return "the TLS certificate expired at " + expiry.UTC().Format(time.RFC3339) + ": no client accepts it; renew it"
	case time.Until(start) > 0:
		return "the TLS certificate is valid only from " + start.UTC().Format(time.RFC3339) + ": check this machine's clock"
	case left < min(expiryWarning, expiry.Sub(start)/10):
		return "the TLS certificate expires soon, at " + expiry.UTC().Format(time.RFC3339) + ": renew it"
	}
	return ""
}
