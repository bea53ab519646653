package serving

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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

// LoadCertificate reads a certificate and its key from PEM files.
func LoadCertificate(certFile, keyFile string) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	if pair.Leaf == nil {
		pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0])
	}
	return &pair, err
}
