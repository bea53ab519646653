package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"itwin-token-server/internal/fresh"
	"itwin-token-server/internal/telemetry"
)

// pipes is a listener in memory, so that a server can live in a synctest bubble.
// It must be made there.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.close(); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// dial connects a client; an error means that the listener is closed.
func (p *pipes) dial() (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) mustDial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := p.dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// A running is a server under [Run].
type running struct {
	*pipes
	log     *book
	stop    context.CancelFunc // asks it to shut down
	stopped chan struct{}      // closed when it has been told of that
	ended   chan error         // what Run returned
}

// start runs a server over pipes, in the test's bubble; the test ends with it.
func start(t *testing.T, handler http.Handler) *running {
	t.Helper()
	return startTLS(t, handler, nil)
}

// startTLS is start with a certificate, which it also keeps fresh.
func startTLS(t *testing.T, handler http.Handler, certificate *fresh.Value[*tls.Certificate]) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{pipes: newPipes(), log: new(book), stop: cancel, stopped: make(chan struct{}), ended: make(chan error, 1)}
	server := Server{
		Listener: r.pipes, Handler: handler, Certificate: certificate, Log: r.log.logger(),
		Stopping: func() { close(r.stopped) },
	}
	var all sync.WaitGroup
	all.Go(func() { r.ended <- Run(ctx, server) })
	if certificate != nil {
		all.Go(func() { certificate.Run(ctx) })
	}
	t.Cleanup(func() { cancel(); all.Wait() })
	return r
}

// client makes each of its requests on a connection of its own.
func (r *running) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return r.dial() },
		DisableKeepAlives: true,
	}}
}

// get is the status and the body of a GET, or "" and the error.
func get(client *http.Client, url string) (string, error) {
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.Status + " " + string(body), err
}

// answer reads one answer off a connection.
func answer(conn net.Conn) (string, error) {
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.Status + " " + string(body), err
}

var hello = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })

// A book is a log to be looked at.
type book struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (b *book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *book) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *book) logger() *slog.Logger { return telemetry.NewLog(b, "text", slog.LevelDebug) }

// A pair is a certificate, the one that signed it, and its key, each in PEM.
type pair struct{ leaf, issuer, key string }

// newPair makes a pair for localhost, with a serial to know it by.
func newPair(t *testing.T, serial int64, begins, ends time.Time) pair {
	t.Helper()
	template := func(serial int64, ca bool) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
			NotBefore: begins, NotAfter: ends, IsCA: ca, BasicConstraintsValid: true,
		}
	}
	rootKey, leafKey := newKey(t), newKey(t)
	root, leaf := template(1_000_000+serial, true), template(serial, false)
	return pair{
		leaf:   sign(t, leaf, root, leafKey, rootKey),
		issuer: sign(t, root, root, rootKey, rootKey),
		key:    keyPEM(t, leafKey),
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keyPEM(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func sign(t *testing.T, template, parent *x509.Certificate, subject, signer *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &subject.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// valid makes a pair that is good for a year.
func valid(t *testing.T, serial int64) pair {
	t.Helper()
	now := time.Now()
	return newPair(t, serial, now.Add(-time.Hour), now.AddDate(1, 0, 0))
}

// write puts the pair into dir, as tls.crt and tls.key.
func (p pair) write(t *testing.T, dir string) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	write(t, certFile, p.leaf+p.issuer)
	write(t, keyFile, p.key)
	return certFile, keyFile
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func wantContains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("got %q, want %q in it", text, part)
		}
	}
}
