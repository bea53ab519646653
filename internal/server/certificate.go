package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"itwin-token-server/internal/fresh"
)

// certificateTerm has the files looked at twice a minute, so that a renewal is
// served within one; a pair once read serves until the next good one.
var certificateTerm = fresh.Term{Renew: 30 * time.Second, Until: 100 * 365 * 24 * time.Hour}

// Certificate keeps a certificate and its key fresh from their files, once its
// Run runs; report hears of each look. It opens the files anew each time, so it
// sees a renewal also where a symbolic link is what changes.
func Certificate(certFile, keyFile string, report func(time.Duration, error)) *fresh.Value[*tls.Certificate] {
	return fresh.New(fresh.Config[*tls.Certificate]{
		Fetch: func(context.Context) (*tls.Certificate, fresh.Term, error) {
			pair, err := LoadCertificate(certFile, keyFile)
			return pair, certificateTerm, err
		},
		Report: report,
	})
}

// LoadCertificate reads a certificate, the chain behind it, and its key from PEM
// files. Its errors name the files, and show nothing of them.
func LoadCertificate(certFile, keyFile string) (*tls.Certificate, error) {
	if strings.Contains(certFile+keyFile, "-----BEGIN") {
		return nil, errors.New("want the names of two files, got what belongs into one (not shown: it may be the key)")
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
	// few clients would accept. crypto/tls drops what it cannot decode.
	if begun := bytes.Count(chain, []byte("-----BEGIN CERTIFICATE-----")); begun != len(pair.Certificate) {
		return nil, fmt.Errorf("%s: want whole certificates, got %d of %d", certFile, len(pair.Certificate), begun)
	}
	return &pair, nil
}

// soon is how long before its end a certificate is warned of: by then whatever
// renews it should have done so. For a short-lived one it is a tenth of its life.
const soon = 14 * 24 * time.Hour

// Ending warns of a certificate that has ended, ends soon or has not begun; it is
// empty for any other.
func Ending(pair *tls.Certificate) string {
	begins, ends := pair.Leaf.NotBefore, pair.Leaf.NotAfter
	left := time.Until(ends)
	switch {
	case left <= 0:
		return "the TLS certificate has expired at " + ends.UTC().Format(time.RFC3339) + ": no client accepts it; renew it"
	case time.Until(begins) > 0:
		return "the TLS certificate is valid only from " + begins.UTC().Format(time.RFC3339) + ": check this machine's clock"
	case left < min(soon, ends.Sub(begins)/10):
		return "the TLS certificate expires soon, at " + ends.UTC().Format(time.RFC3339) + ": renew it"
	}
	return ""
}

// Ends is when the certificate in use ends; zero: there has been none.
func Ends(certificate *fresh.Value[*tls.Certificate]) time.Time {
	if pair, had := certificate.Last(); had {
		return pair.Leaf.NotAfter
	}
	return time.Time{}
}
