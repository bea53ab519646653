// Package standin provides a stand-in Auth0 tenant and a stand-in IMS, for the demo
// and for tests. NOT FOR PRODUCTION: it gives user tokens to everyone, checks only
// what the token server depends on, and misbehaves on request.
//
// In a test, in a testing/synctest bubble too, where sockets cannot be used:
//
//	s := standin.ForTest(t)
//	client := &http.Client{Transport: s.Transport()}
//	s.IMS.Misbehave(standin.Delay(20 * time.Second)) // from the next grant on
//	token := s.Tenant.AccessToken("http://tokenserver.sample.bentley.com")
//
// Several bubbles can use a Standin one after the other, provided that Stop and Close
// are not called from outside a bubble that has requests in flight.
package standin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"time"
)

// The hosts of both servers in Transport, and until Start. RFC 6761 §6.2 keeps .test
// out of the real DNS.
const (
	tenantName = "tenant.auth0.test"
	imsName    = "ims.bentley.test"
)

// Canary is in every error text and web page of both servers. It looks like a secret:
// a token server that repeats it repeats what upstream sent, which it must never do.
const Canary = "hunter2-c4n4ry/0f+upstream=="

// Standin is an Auth0 tenant and an IMS. They don't depend on each other.
type Standin struct {
	Tenant      *Tenant
	IMS         *IMS
	certificate tls.Certificate // of both
}

// New makes both, with new keys. Nothing listens until Start; Transport works at once.
func New() (*Standin, error) {
	var keys [3]Key
	for i := range keys {
		var err error
		if keys[i], err = newKey(); err != nil {
			return nil, err
		}
	}
	return newStandin(keys[0], keys[1], keys[2])
}

func newStandin(current, next, ims Key) (*Standin, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	certificate, err := selfSigned(key, tenantName, imsName, "localhost")
	if err != nil {
		return nil, err
	}
	return &Standin{
		Tenant:      newTenant(certificate, current, next),
		IMS:         newIMS(certificate, ims),
		certificate: certificate,
	}, nil
}

// Start makes each listen on a free port of 127.0.0.1, over TLS. From then on
// Tenant.Domain and IMS.URL have that port. Call it once, and Close after an error too.
func (s *Standin) Start() error {
	if err := s.Tenant.listen("127.0.0.1:0"); err != nil {
		return err
	}
	return s.IMS.listen("127.0.0.1:0")
}

// Close stops both and waits until no request is in progress. A hand-written Fault
// that ignores its request's context delays it. Safe twice.
func (s *Standin) Close() {
	for _, server := range []*Server{&s.Tenant.Server, &s.IMS.Server} {
		server.Stop()
		for server.open() > 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

// CACert is the certificate to trust for both, in PEM, as for SSL_CERT_FILE.
func (s *Standin) CACert() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.certificate.Leaf.Raw})
}

// Pool holds only that certificate.
func (s *Standin) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.certificate.Leaf)
	return pool
}
