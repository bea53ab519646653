// Package server serves HTTP/1.1 for a token server: it listens, reloads the TLS
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
	"strings"
	"time"
)

// Bounds on what clients can use. None of them limits an honest client. net/http keeps
// what it has read of a header until the header is complete, in up to 20 times its
// size. So the memory that clients can take is 20 × maxHeaderBytes × maxConnections, 234 MiB,
// and some for TLS. With what the garbage collector has not freed yet, up to 341 MiB were
// measured.
const (
	headerTimeout  = 10 * time.Second        // for the whole header to arrive
	requestTimeout = 30 * time.Second        // for a request and its answer
	bodyTimeout    = time.Second             // after an answer, for a body that is not read
	idleTimeout    = 2 * time.Minute         // between two requests on a connection
	maxHeaderBytes = 12 << 10                // a user token of 8 KiB, and what browsers add
	maxConnections = 1000                    // open at once; further ones wait to be accepted
	crowded        = maxConnections * 9 / 10 // if more are open, an answer ends its connection
)

// The steps of a shutdown. Orchestrators give a process 10 s from the signal.
const (
	drainDelay    = time.Second     // port still open, so that probes see "not ready"
	closeDelay    = time.Second     // port closed, so that each answer ends its connection
	cancelTimeout = 8 * time.Second // from the signal: requests that still wait are canceled
	closeTimeout  = 9 * time.Second // from the signal: all connections are closed
)

// A Server is what [Run] serves.
type Server struct {
	Listener    net.Listener
	Handler     http.Handler
	Certificate *Certificate // nil: plain http
	Log         *slog.Logger
	Stopping    func() // called when the shutdown begins
}

// Run serves until ctx ends, and then until the requests in flight are answered,
// but at most 9 s more. It then returns nil, also if it had to close connections
// of clients that were too slow.
func Run(ctx context.Context, s Server) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx)) // requests outlive ctx
	defer cancel()
	port := limit(s.Listener)
	server := newServer(base, port, s.Handler, s.Log)
	listener := net.Listener(port)
	if s.Certificate != nil {
		listener = tls.NewListener(port, s.Certificate.config())
		go s.Certificate.reload(base, s.Log)
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	s.Stopping()
	time.AfterFunc(cancelTimeout, cancel)
	shutDown(server, port)
	return nil
}

// shutDown ends the server in steps, so that clients that keep their connections busy
// leave between two requests. First the port stays open, and connections are kept:
// a client whose connection is ended while the port is open would connect again, and
// wait in the system's queue, which is reset when the port closes. Then the port
// closes, and each answer ends its connection. Shutdown is last, because from then on
// net/http drops a request that it has just read.
func shutDown(server *http.Server, port net.Listener) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	time.Sleep(drainDelay)
	port.Close()
	time.Sleep(closeDelay)
	server.Shutdown(ctx)
	server.Close() // connections whose clients are too slow
}

// ServeMetrics serves the metrics at GET /metrics on a listener of their own, with
// the same bounds as [Run], until ctx ends.
func ServeMetrics(ctx context.Context, l net.Listener, metrics http.Handler, log *slog.Logger) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.EscapedPath() == "/metrics" && (r.Method == "GET" || r.Method == "HEAD") {
			metrics.ServeHTTP(w, r)
		} else {
			http.NotFound(w, r)
		}
	}
	port := limit(l)
	server := newServer(ctx, port, http.HandlerFunc(handler), log)
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.Serve(port); ctx.Err() == nil {
		log.Error("the metrics are no longer served", "error", err)
	}
}

// newServer returns a server with the bounds. It serves the connections of l, and ctx
// is the parent of its requests' contexts.
func newServer(
	ctx context.Context, l *limitedListener, handler http.Handler, logger *slog.Logger,
) *http.Server {
	return &http.Server{
		Handler:           l.handler(handler),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState:         l.connState,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes - 4096, // net/http adds as many
		ErrorLog:          log.New(errorLog{logger}, "", 0),
		// OPTIONS * gets the headers of any other answer.
		DisableGeneralOptionsHandler: true,
	}
}

// errorLog logs the messages of net/http. It reports all of them as text, so only their
// beginning tells which is which.
type errorLog struct{ log *slog.Logger }

// levels are those of messages that are not about what clients did, by their beginning.
var levels = map[string]slog.Level{
	"http: Accept error": slog.LevelWarn,  // for the operator: too many open files
	"http: panic":        slog.LevelError, // our fault
}

func (e errorLog) Write(line []byte) (int, error) {
	level := slog.LevelDebug
	for beginning, l := range levels {
		if bytes.HasPrefix(line, []byte(beginning)) {
			level = l
		}
	}
	// The handlers of slog don't escape all that could control a terminal.
	quoted := strconv.QuoteToASCII(strings.TrimSuffix(string(line), "\n"))
	e.log.Log(context.Background(), level, "net/http", "message", quoted[1:len(quoted)-1])
	return len(line), nil
}
