// Package server serves HTTP for a token server: it listens, reloads the TLS
// certificate, bounds what a client can use, adds the headers that every answer
// needs, and shuts down without losing a request.
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

	"itwin-token-server/internal/telemetry"
)

// Bounds on what a client can use. None of them limits an honest one.
const (
	headerTimeout  = 10 * time.Second // for the whole header to arrive
	requestTimeout = 30 * time.Second // for a request and its answer
	idleTimeout    = 2 * time.Minute  // between two requests on a connection
	maxHeaderBytes = 28 << 10         // net/http adds 4 KiB: a user token of 8 KiB, and cookies
	maxStreams     = 32               // at once, on an HTTP/2 connection
	maxBodyBytes   = 64 << 10         // received on an HTTP/2 connection and not read; the least that net/http accepts
)

// The phases of a shutdown: 9 s in all, since orchestrators give 10.
const (
	drainDelay      = time.Second             // still listening, so that probes see "not ready"
	acceptDelay     = 500 * time.Millisecond  // for the first request on each connection accepted until then
	shutdownTimeout = 6500 * time.Millisecond // for requests in flight to be answered
	closeTimeout    = time.Second             // for those canceled after that to be answered
)

// maxPanicBytes bounds what is logged of a panic: enough to find its place.
const maxPanicBytes = 4 << 10

// A Server is what [Run] serves.
type Server struct {
	Listener    net.Listener
	Handler     http.Handler
	Origins     []string     // as for [Headers]
	Certificate *Certificate // nil: plain http
	Log         *slog.Logger
	Stopping    func() // called when the shutdown begins
}

// Run serves until ctx ends, and then until the requests in flight are answered,
// but at most 10 s more. It then returns nil, also if it had to close connections
// of clients that were too slow.
func Run(ctx context.Context, s Server) error {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var stopping atomic.Bool
	server := newServer(requests, closeWhen(&stopping, s.Handler), s.Log)
	failed := make(chan error, 1)
	go func() { failed <- serve(server, s) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	s.Stopping()
	stopping.Store(true)
	time.Sleep(drainDelay)
	// Once Shutdown has begun, net/http drops a request on a connection that had
	// none before. So the last connection is accepted some time earlier.
	s.Listener.Close()
	time.Sleep(acceptDelay)
	if shutdown(server, shutdownTimeout) == nil {
		return nil
	}
	cancel() // requests that still wait are answered with an error instead of a broken connection
	if shutdown(server, closeTimeout) != nil {
		s.Log.Warn("closing connections that are still busy")
		server.Close()
	}
	return nil
}

// closeWhen makes each answer end its connection if stopping is set when the
// answer begins, so that clients that keep connections busy leave between two
// requests.
func closeWhen(stopping *atomic.Bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&closingWriter{ResponseWriter: w, stopping: stopping}, r)
	})
}

type closingWriter struct {
	http.ResponseWriter
	stopping *atomic.Bool
	begun    bool
}

func (w *closingWriter) WriteHeader(status int) {
	w.begun = true
	if w.stopping.Load() {
		w.Header().Set("Connection", "close")
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *closingWriter) Write(p []byte) (int, error) {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// newServer makes a server with the bounds; requests get contexts of ctx.
func newServer(ctx context.Context, handler http.Handler, to *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReceiveBufferPerConnection: maxBodyBytes,
			MaxReceiveBufferPerStream:     maxBodyBytes,
		},
		DisableGeneralOptionsHandler: true, // OPTIONS * gets the headers of any other answer
		ErrorLog:                     log.New(errorLog{to}, "", 0),
		BaseContext:                  func(net.Listener) context.Context { return ctx },
	}
}

func serve(server *http.Server, s Server) error {
	if s.Certificate == nil {
		return server.Serve(limit(s.Listener, headerLines(s.Origins)))
	}
	server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.Certificate.GetCertificate}
	return server.ServeTLS(limit(s.Listener, ""), "", "")
}

func shutdown(server *http.Server, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return server.Shutdown(ctx)
}

// ServeMetrics serves the metrics at GET /metrics on a listener of their own, with
// the same bounds as [Run], until ctx ends.
func ServeMetrics(ctx context.Context, listener net.Listener, metrics http.Handler, log *slog.Logger) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	server := newServer(ctx, ExactPaths(http.HandlerFunc(http.NotFound), mux), log)
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(limit(listener, "")); ctx.Err() == nil {
		log.Error("the metrics are no longer served", "error", err)
	}
}

// errorLog logs the messages of net/http. Most are caused by clients, like a
// broken handshake; a panic is our fault.
type errorLog struct{ log *slog.Logger }

func (e errorLog) Write(line []byte) (int, error) {
	if bytes.HasPrefix(line, []byte("http: panic")) {
		e.log.Error("net/http", "message", strconv.QuoteToASCII(string(line[:min(len(line), maxPanicBytes)])))
	} else {
		e.log.Debug("net/http", "message", telemetry.Printable(string(line)))
	}
	return len(line), nil
}
