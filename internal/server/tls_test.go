package server

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
)

// startSockets runs a server with a certificate on a free port of loopback.
func startSockets(t *testing.T, handler http.Handler) (addr string) {
	t.Helper()
	certFile, keyFile := valid(t, 1).write(t, t.TempDir())
	listener, err := Listen("127.0.0.1", "0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	certificate, err := NewCertificate(certFile, keyFile, new(logBuffer).logger())
	if err != nil {
		t.Fatal(err)
	}
	server := newServer(ctx, handler, new(logBuffer).logger())
	all.Go(func() { serve(server, listener, certificate) })
	t.Cleanup(func() { cancel(); server.Close(); all.Wait() })
	return listener.Addr().String()
}

func TestTLSVersions(t *testing.T) {
	addr := startSockets(t, hello)
	for _, test := range []struct {
		name    string
		version uint16
		ok      bool
	}{
		{"1.0", tls.VersionTLS10, false},
		{"1.1", tls.VersionTLS11, false},
		{"1.2", tls.VersionTLS12, true},
		{"1.3", tls.VersionTLS13, true},
	} {
		conn, err := tls.Dial("tcp", addr, &tls.Config{MinVersion: test.version, MaxVersion: test.version, InsecureSkipVerify: true})
		if (err == nil) != test.ok {
			t.Errorf("TLS %s: error %v, want success: %v", test.name, err, test.ok)
		}
		if err == nil {
			conn.Close()
		}
	}
}

// One connection serves all requests, also those with a body, which is not read.
func TestHTTP2(t *testing.T) {
	addr := startSockets(t, Headers(nil, hello))
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	connections := make(map[string]bool)
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
		connections[c.Conn.LocalAddr().String()] = true
	}})
	for _, body := range []string{"", "x", strings.Repeat("x", 1<<20), ""} {
		req, err := http.NewRequestWithContext(ctx, "POST", "https://"+addr, strings.NewReader(body))
		must(t, err)
		resp, err := transport.RoundTrip(req)
		must(t, err)
		if got, err := text(resp, nil); got != "200 OK hello" || resp.Proto != "HTTP/2.0" {
			t.Errorf("%d bytes of body: got %s %q (%v), want HTTP/2.0 200 OK hello", len(body), resp.Proto, got, err)
		}
	}
	if len(connections) != 1 {
		t.Errorf("%d connections, want 1", len(connections))
	}
}

func TestPlainTextOnTheTLSPort(t *testing.T) {
	addr := startSockets(t, hello)
	resp, err := http.Get("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d, want 400", resp.StatusCode)
	}
}
