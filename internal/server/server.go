// Package serving runs HTTP servers that slow, huge and rude clients cannot
// hold up, and ends them without cutting a request short.
package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"itwin-token-server/internal/fresh"
	"itwin-token-server/internal/telemetry"
)

// The bounds on what a client may take. None of them limits an honest one.
const (
	headerTimeout  = 10 * time.Second // for the whole header to arrive
	requestTimeout = 30 * time.Second // for a request and its answer
	idleTimeout    = 2 * time.Minute  // between requests of one connection
	maxHeader      = 60 << 10         // bytes; net/http adds 4 KiB to it
)

// The parts of a shutdown: under 10 s in all, which is what orchestrators give.
const (
	linger = time.Second     // still listening, so that probes can see "not ready"
	drain  = 7 * time.Second // for requests in flight to be answered in full
	cut    = time.Second     // for those then told that it is over
)

// maxPanic bounds what of a panic is logged, in bytes: enough to find its place.
const maxPanic = 4 << 10

// A Server is what [Run] serves.
type Server struct {
	Listener    net.Listener
	Handler     http.Handler
	Certificate *fresh.Value[*tls.Certificate] // nil: plain http
	Log         *slog.Logger
	Stopping    func() // is told when the shutdown begins
}

// Run serves until ctx ends, and then as long as requests in flight need, but no
// more than 10 s. Its error is nil then, whatever clients do: one that dawdles
// must not make the end look like a failure.
func Run(ctx context.Context, s Server) error {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var stopping atomic.Bool
	server := newServer(requests, closing(&stopping, s.Handler), s.Log)
	failed := make(chan error, 1)
	go func() { failed <- serve(server, s) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	s.Stopping()
	stopping.Store(true)
	time.Sleep(linger)
	if shutdown(server, drain) == nil {
		return nil
	}
	cancel() // who still waits is answered with an error, not with a broken connection
	if shutdown(server, cut) != nil {
		s.Log.Warn("shut down with connections still busy, which are cut")
		server.Close()
	}
	return nil
}

// closing has each answer end its connection, once that is set: busy clients then
// move on between two requests, and none is cut while it sends one.
func closing(stopping *atomic.Bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stopping.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// newServer makes a server that keeps the bounds; requests' contexts are of ctx.
func newServer(ctx context.Context, handler http.Handler, to *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(errorLog{to}, "", 0),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
}

func serve(server *http.Server, s Server) error {
	if s.Certificate == nil {
		return server.Serve(s.Listener)
	}
	server.TLSConfig = &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			ctx, cancel := context.WithTimeout(hello.Context(), headerTimeout)
			defer cancel()
			return s.Certificate.Get(ctx)
		},
	}
	return server.ServeTLS(s.Listener, "", "")
}

// errorLog takes what net/http has to say. Most of it is callers' doing, like a
// broken handshake; a panic is ours.
type errorLog struct{ log *slog.Logger }

func (e errorLog) Write(line []byte) (int, error) {
	ctx := context.Background()
	if bytes.HasPrefix(line, []byte("http: panic")) {
		e.log.ErrorContext(ctx, "net/http", "said", strconv.QuoteToASCII(string(line[:min(len(line), maxPanic)])))
	} else {
		e.log.DebugContext(ctx, "net/http", "said", telemetry.Printable(string(line)))
	}
	return len(line), nil
}

func shutdown(server *http.Server, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return server.Shutdown(ctx)
}
