// Package standin plays Auth0 and Bentley's IMS, for the demo and for tests.
//
// NOT FOR PRODUCTION. It hands user tokens to whoever asks the process for them,
// keeps its keys in memory, checks only what the token server depends on, and
// misbehaves on request. Nothing it signs is worth anything outside this process.
//
// Over TLS, on loopback:
//
//	s, err := standin.New()
//	…
//	err = s.Start()
//	defer s.Close()
//	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Pool()}}}
//	token := s.Tenant.AccessToken("http://tokenserver.sample.bentley.com")
//
// In a testing/synctest bubble, where real sockets don't belong:
//
//	client := &http.Client{Transport: s.Transport()}
//	s.IMS.Misbehave(standin.Delay(20 * time.Second)) // from the next grant on
//	s.Tenant.Rotate()
//
// Making one takes three RSA keys, the better part of a second. Tests make one
// (sync.OnceValues(standin.New)) and take a Fresh one each, or share it: nothing of a
// bubble stays behind in it, provided that Stop and Close are not called from
// outside while requests of a bubble are under way.
package standin

import (
	"crypto/x509"
	"errors"
	"sync"
)

// The names that both answer to in process, and until Start. RFC 6761 §6.2 keeps
// .test out of the real DNS, so a request that misses Transport gets nowhere.
const (
	tenantName = "tenant.auth0.test"
	imsName    = "ims.bentley.test"
)

// Canary is in every error text and web page that a misbehaving or refusing
// stand-in gives. It looks like a secret; whoever repeats it repeats what
// upstream said, which the token server must never do.
const Canary = "hunter2-c4n4ry/0f+upstream=="

// Standin is an Auth0 tenant and an IMS that know nothing of one another.
type Standin struct {
	Tenant *Tenant
	IMS    *IMS
	ca     *authority
}

// New makes both, with fresh keys. Nothing listens yet: Transport works, sockets
// need Start. An error means that the system has no randomness to give.
func New() (*Standin, error) {
	var keys [3]Key
	var errs [3]error
	var making sync.WaitGroup // an RSA key takes some 100 ms
	for i, name := range []string{tenantName, tenantName, imsName} {
		making.Go(func() { keys[i], errs[i] = newKey(name) })
	}
	making.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return assemble(keys)
}

// Fresh is another Standin, as New makes it, but with the keys that s has now, which
// saves the time they take. Only the keys are shared.
func (s *Standin) Fresh() (*Standin, error) {
	return assemble([3]Key{s.Tenant.Key(), s.Tenant.NextKey(), s.IMS.key})
}

func assemble(keys [3]Key) (*Standin, error) {
	ca, err := newAuthority(tenantName, imsName)
	if err != nil {
		return nil, err
	}
	return &Standin{
		Tenant: newTenant(ca, keys[0], keys[1]),
		IMS:    newIMS(ca, keys[2]),
		ca:     ca,
	}, nil
}

// Start makes each listen on a free port of 127.0.0.1, over TLS. From then on
// Tenant.Domain and IMS.URL name that port. A second Start is an error.
func (s *Standin) Start() error {
	if err := s.Tenant.start(); err != nil {
		return err
	}
	if err := s.IMS.start(); err != nil {
		s.Tenant.Stop()
		return err
	}
	return nil
}

// Close stops both and waits until none of their goroutines is left. A Fault of
// the caller's own that ignores its request's context keeps it waiting. Safe twice.
func (s *Standin) Close() {
	for _, server := range []*Server{&s.Tenant.Server, &s.IMS.Server} {
		server.Stop()
		server.sockets.Wait()
	}
}

// CACert is the certificate that vouches for both, in PEM, as SSL_CERT_FILE wants it.
func (s *Standin) CACert() []byte { return s.ca.pem() }

// Pool holds that certificate and no other.
func (s *Standin) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.ca.root)
	return pool
}

var errStarted = errors.New("standin: already started")
