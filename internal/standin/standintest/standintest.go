// Package standintest is the test kit: the stand-ins of package standin, which here also
// count their requests, answer with faults, stop and come back. They are reached over
// sockets or, in a testing/synctest bubble, where sockets cannot be used, in process:
//
//	s := standintest.New(t)
//	client := &http.Client{Transport: s.Transport()}
//	s.IMS.Misbehave(standintest.Delay(20 * time.Second)) // from the next grant on
//	token := s.Tenant.AccessToken("http://tokenserver.sample.bentley.com")
//
// Several bubbles can use a Standin one after the other, provided that Stop and Close
// are not called from outside a bubble that has requests in flight.
package standintest

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"sync"
	"time"

	"itwin-token-server/internal/standin"
)

// Claims are a token's claims, or the fields of its header.
type Claims = standin.Claims

// Key signs tokens.
type Key = standin.Key

// Canary is in every error text and web page of both servers. It looks like a secret: a
// token server that repeats it repeats what upstream sent, which it must never do.
const Canary = standin.Canary

// TB is the part of [testing.TB] that the kit needs, so that a program can use it too.
type TB interface {
	Helper()
	Cleanup(func())
	Fatal(...any)
}

// Standin is an Auth0 tenant and an IMS. They don't depend on each other.
type Standin struct {
	Tenant *Tenant
	IMS    *IMS

	base *standin.Standin
}

// Tenant is the stand-in tenant. Its faults and counts are those of the key fetches.
type Tenant struct {
	*standin.Tenant
	Server
}

// IMS is the stand-in IMS. Its faults and counts are those of the grants.
type IMS struct {
	*standin.IMS
	Server
	mu     sync.Mutex // guards issued
	issued []issuedToken
}

type issuedToken struct {
	token  string
	expiry time.Time
}

// shared has the keys for all tests of a process: to make RSA keys takes long.
var shared = sync.OnceValues(standin.New)

// New returns a new Standin that is closed when the test ends. Nothing listens; use
// [Standin.Transport], in a synctest bubble too.
func New(t TB) *Standin {
	t.Helper()
	keys, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	base, err := standin.NewWithKeys(keys.Tenant.Key(), keys.Tenant.NextKey(), keys.IMS.Key())
	if err != nil {
		t.Fatal(err)
	}
	s := &Standin{Tenant: &Tenant{Tenant: base.Tenant}, IMS: &IMS{IMS: base.IMS}, base: base}
	base.IMS.Granted = s.IMS.granted
	certificates := &tls.Config{Certificates: []tls.Certificate{base.Certificate}}
	s.Tenant.setUp(standin.TenantName, certificates, "GET "+standin.JWKSPath, base.Tenant)
	s.IMS.setUp(standin.IMSName, certificates, "POST "+standin.GrantPath, base.IMS)
	t.Cleanup(s.Close)
	return s
}

// Start is New, and both servers listen on loopback.
func Start(t TB) *Standin {
	t.Helper()
	s := New(t)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	return s
}

// Listen makes both listen on free ports of 127.0.0.1, over TLS. From then on
// Tenant.Domain and IMS.URL have that port.
func (s *Standin) Listen() error {
	if err := s.Tenant.listen("127.0.0.1:0"); err != nil {
		return err
	}
	return s.IMS.listen("127.0.0.1:0")
}

// Close stops both and waits until no request is in progress. A hand-written Fault
// that ignores its request's context delays it. It may be called twice.
func (s *Standin) Close() {
	for _, server := range []*Server{&s.Tenant.Server, &s.IMS.Server} {
		server.Stop()
		for server.open() > 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

// CACert is the certificate to trust for both, in PEM, as for SSL_CERT_FILE.
func (s *Standin) CACert() []byte { return s.base.CACert() }

// Pool holds only that certificate.
func (s *Standin) Pool() *x509.CertPool { return s.base.Pool() }

// Organization returns the claims that a login with an Auth0 organization adds. Auth0
// writes the name in lower case, and leaves it out unless the tenant allows names.
func Organization(id, name string) Claims { return Claims{"org_id": id, "org_name": name} }

func (m *IMS) granted(token string, expiry time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.issued = append(m.issued, issuedToken{token, expiry})
}

// Issued returns all tokens, oldest first, also those that a fault spoilt.
func (m *IMS) Issued() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var tokens []string
	for _, t := range m.issued {
		tokens = append(tokens, t.token)
	}
	return tokens
}

// Valid reports whether token was issued here and has not expired.
func (m *IMS) Valid(token string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.issued, func(t issuedToken) bool {
		return t.token == token && time.Now().Before(t.expiry)
	})
}
