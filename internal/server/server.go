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
	"time"
)

// Bounds on what a client can use. None of them limits an honest client.
const (
	headerTimeout  = 10 * time.Second // for the whole header to arrive
	requestTimeout = 30 * time.Second // for a request and its answer
	idleTimeout    = 2 * time.Minute  // between two requests on a connection
	maxHeaderBytes = 28 << 10         // net/http adds 4 KiB: a user token of 8 KiB, and cookies
	pingTimeout    = 5 * time.Second  // for an HTTP/2 client that has sent nothing for headerTimeout
	maxStreams     = 32               // at once, on an HTTP/2 connection
	maxFrame       = 16 << 10         // bytes; net/http keeps a buffer of this size for each HTTP/2 connection
	maxBodyBytes   = 64 << 10         // received on an HTTP/2 connection and not read; the least that net/http accepts
	maxLogged      = 4 << 10          // bytes of a message of net/http: enough to find the place of a panic
)

// A shutdown, from the signal: 9 s in all, since orchestrators give 10.
const (
	drainDelay      = time.Second           // still listening, so that probes see "not ready"
	firstTimeout    = 3 * time.Second       // after that, for the first request on each connection accepted until then
	firstInterval   = 50 * time.Millisecond // how often to look whether all have arrived
	shutdownTimeout = 8 * time.Second       // for requests in flight to be answered
	closeTimeout    = time.Second           // for those canceled after that to be answered
)

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
	listener := limit(s.Listener, headerLines(s.Origins))
	server := newServer(ctx, listener, s.Handler, s.Log)
	server.BaseContext = func(net.Listener) context.Context { return requests }
	failed := make(chan error, 1)
	go func() {
		if s.Certificate == nil {
			failed <- server.Serve(listener)
			return
		}
		go s.Certificate.reload(requests, s.Log)
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.Certificate.get}
		failed <- server.ServeTLS(listener, "", "")
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	s.Stopping()
	time.AfterFunc(shutdownTimeout, cancel) // requests that still wait are answered with an error instead of a broken connection
	timeout, stop := context.WithTimeout(context.Background(), shutdownTimeout+closeTimeout)
	defer stop()
	time.Sleep(drainDelay)
	listener.Close()
	// Once Shutdown has begun, net/http drops a request on a connection that had
	// none before.
	for range firstTimeout / firstInterval {
		if time.Sleep(firstInterval); listener.silent.Load() == 0 {
			break
		}
	}
	if server.Shutdown(timeout) != nil {
		s.Log.Warn("closing connections that are still busy")
		server.Close()
	}
	return nil
}

// ServeMetrics serves the metrics at GET /metrics on a listener of their own, with
// the same bounds as [Run], until ctx ends.
func ServeMetrics(ctx context.Context, listener net.Listener, metrics http.Handler, log *slog.Logger) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	limited := limit(listener, "")
	server := newServer(ctx, limited, ExactPaths(http.NotFoundHandler(), mux), log)
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.Serve(limited); ctx.Err() == nil {
		log.Error("the metrics are no longer served", "error", err)
	}
}

// newServer makes a server with the bounds; ctx ends when the shutdown begins.
func newServer(ctx context.Context, l *limitedListener, handler http.Handler, to *slog.Logger) *http.Server {
	return &http.Server{
		ConnContext:       withConn,
		Handler:           l.handler(ctx, handler),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReadFrameSize:              maxFrame,
			MaxReceiveBufferPerConnection: maxBodyBytes,
			MaxReceiveBufferPerStream:     maxBodyBytes,
			SendPingTimeout:               headerTimeout, // a half-sent frame or a dead connection answers no ping
			PingTimeout:                   pingTimeout,
			WriteByteTimeout:              requestTimeout,
		},
		DisableGeneralOptionsHandler: true, // OPTIONS * gets the headers of any other answer
		ErrorLog:                     log.New(errorLog{to}, "", 0),
	}
}

// bodyMayFollow reports whether a body may follow the request. It is not read, so
// the connection must end with the answer; HTTP/2 ends the stream by itself.
//
// HTTP/1.0 has no Transfer-Encoding, and net/http ignores that header there, so a
// chunked body would be taken for the next request. The handler cannot see the
// header either, so no such connection is kept (RFC 9112 §6.1).
func bodyMayFollow(r *http.Request) bool {
	return r.ProtoMajor == 1 && (r.ContentLength != 0 || r.ProtoMinor == 0)
}

// errorLog logs the messages of net/http. Most are caused by clients, like a
// broken handshake; a panic is our fault.
type errorLog struct{ log *slog.Logger }

func (e errorLog) Write(line []byte) (int, error) {
	level := slog.LevelDebug
	if bytes.HasPrefix(line, []byte("http: panic")) || bytes.HasPrefix(line, []byte("http2: panic")) {
		level = slog.LevelError
	}
	e.log.Log(context.Background(), level, "net/http", "message", strconv.QuoteToASCII(string(line[:min(len(line), maxLogged)])))
	return len(line), nil
}
