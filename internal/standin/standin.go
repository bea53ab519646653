// Package standin provides a stand-in Auth0 tenant and a stand-in IMS, for the demo.
// NOT FOR PRODUCTION: it gives user tokens to everyone, and checks only what the token
// server depends on.
//
// Tests use package standintest, whose stand-ins also misbehave on request.
package standin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"sync"
)

// The hosts of both servers until Start. RFC 6761 §6.2 keeps .test out of the real DNS.
const (
	TenantName = "tenant.auth0.test"
	IMSName    = "ims.bentley.test"
)

// Canary is in every error text and web page of both servers. It looks like a secret:
// a token server that repeats it repeats what upstream sent, which it must never do.
const Canary = "hunter2-c4n4ry/0f+upstream=="

// Standin is an Auth0 tenant and an IMS. They don't depend on each other.
type Standin struct {
	Tenant      *Tenant
	IMS         *IMS
	Certificate tls.Certificate // of both

	servers []*http.Server
}

// New makes both, with new keys. Nothing listens until Start.
func New() (*Standin, error) {
	var keys [3]Key
	for i := range keys {
		var err error
		if keys[i], err = newKey(); err != nil {
			return nil, err
		}
	}
	return NewWithKeys(keys[0], keys[1], keys[2])
}

// NewWithKeys makes both with keys of other stand-ins, since new ones take some 100 ms.
func NewWithKeys(current, next, ims Key) (*Standin, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	certificate, err := selfSigned(key, TenantName, IMSName, "localhost")
	if err != nil {
		return nil, err
	}
	return &Standin{Tenant: newTenant(current, next), IMS: newIMS(ims), Certificate: certificate}, nil
}

// Start makes each listen on a free port of 127.0.0.1, over TLS. From then on
// Tenant.Domain and IMS.URL have that port. Call it once. After an error neither listens.
func (s *Standin) Start() error {
	host, err := s.serve(s.Tenant)
	if err != nil {
		return err
	}
	s.Tenant.SetHost(host)
	if host, err = s.serve(s.IMS); err != nil {
		s.Close()
		return err
	}
	s.IMS.SetHost(host)
	return nil
}

// serve serves the handler until Close, and returns its host with the port.
func (s *Standin) serve(handler http.Handler) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{
		Handler:   handler,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{s.Certificate}},
	}
	s.servers = append(s.servers, server)
	go server.ServeTLS(listener, "", "")
	return listener.Addr().String(), nil
}

// Close stops both. It may be called twice.
func (s *Standin) Close() {
	for _, server := range s.servers {
		server.Close()
	}
}

// CACert is the certificate to trust for both, in PEM, as for SSL_CERT_FILE.
func (s *Standin) CACert() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate.Leaf.Raw})
}

// Pool holds only that certificate.
func (s *Standin) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate.Leaf)
	return pool
}

// locked is a value for concurrent use.
type locked[T any] struct {
	mu sync.Mutex // held for no longer than a few assignments take
	v  T
}

// get returns a shallow copy.
func (l *locked[T]) get() T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.v
}

func (l *locked[T]) update(change func(*T)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.v)
}
