package standintest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"
)

// elsewhere is a path that serves honest answers and does not count. A client that
// follows Redirect(elsewhere) gets a good answer, and so gives itself away.
const elsewhere = "/elsewhere"

// A site is what a Server makes reachable.
type site interface {
	http.Handler
	SetHost(string)
}

// Server is what the tenant and the IMS have in common: the address, the counts and
// the fault. It speaks HTTP/1.1 with a connection for each request, so that a client
// never repeats a request by itself, uncounted, after it met a closed connection.
type Server struct {
	name    string // the host until it listens
	tls     *tls.Config
	site    site
	handler http.Handler

	mu       sync.Mutex // guards what follows
	host     string     // the name, or host:port once it has listened
	listener net.Listener
	stopped  bool
	conns    map[net.Conn]bool // open ones, through sockets or pipes
	fault    Fault             // nil: none
	requests int
	inFlight int // requests not answered yet
	most     int // the largest inFlight
}

// setUp makes the server count requests for the endpoint, such as "GET /path", and
// apply faults to them.
func (s *Server) setUp(name string, tls *tls.Config, endpoint string, honest site) {
	method, path, _ := strings.Cut(endpoint, " ")
	mux := http.NewServeMux()
	mux.Handle(endpoint, s.count(honest))
	mux.HandleFunc(method+" "+elsewhere, func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = path
		honest.ServeHTTP(w, r)
	})
	s.name, s.tls, s.site, s.handler = name, tls, honest, mux
	s.host, s.conns = name, map[net.Conn]bool{}
}

// Requests is the number of key fetches or grants, faults included. Refused
// connections don't count.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// MostAtOnce is the largest number of those requests that were in flight at one time.
func (s *Server) MostAtOnce() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

// Misbehave applies the fault to every request from the next on; nil is Behave.
func (s *Server) Misbehave(fault Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// Behave ends Misbehave, from the next request on.
func (s *Server) Behave() { s.Misbehave(nil) }

// Stop refuses new connections and closes open ones. Stopping twice is fine.
func (s *Server) Stop() {
	s.mu.Lock()
	s.stopped = true
	var open []io.Closer
	for conn := range s.conns {
		open = append(open, conn)
	}
	if s.listener != nil {
		open = append(open, s.listener)
	}
	s.mu.Unlock()
	for _, closer := range open { // which calls track
		closer.Close()
	}
}

// Restart undoes Stop, on the same port. It fails if that port stays in use for 2 s. If
// the server is not stopped, it does nothing.
func (s *Server) Restart() error {
	s.mu.Lock()
	stopped, listened, host := s.stopped, s.listener != nil, s.host
	s.stopped = s.stopped && listened
	s.mu.Unlock()
	if !stopped || !listened {
		return nil
	}
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := s.listen(host)
		if !errors.Is(err, syscall.EADDRINUSE) || time.Since(start) > 2*time.Second {
			return err
		}
	}
}

func (s *Server) listen(addr string) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.host, s.listener, s.stopped = listener.Addr().String(), listener, false
	s.mu.Unlock()
	s.site.SetHost(listener.Addr().String())
	go s.newHTTPServer().ServeTLS(listener, "", "") // until Stop
	return nil
}

func (s *Server) newHTTPServer() *http.Server {
	server := &http.Server{
		Handler:   s.handler,
		TLSConfig: s.tls.Clone(),
		Protocols: new(http.Protocols),
		ConnState: s.track,
		ErrorLog:  log.New(io.Discard, "", 0), // faults make net/http log errors
	}
	server.Protocols.SetHTTP1(true)
	server.SetKeepAlivesEnabled(false)
	return server
}

// track is called first when a connection is accepted, and last when it is closed.
func (s *Server) track(conn net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.conns[conn] = true
		if s.stopped {
			go conn.Close()
		}
	case http.StateClosed:
		delete(s.conns, conn)
	}
}

// open is the number of connections.
func (s *Server) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// count counts the requests to a handler and applies the fault to them.
func (s *Server) count(honest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fault := s.begin()
		// Before the end of the answer is sent, and so before a client's next request.
		defer s.end()

		// net/http cancels the context of a closed connection only after the body was read.
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if fault != nil {
			fault(w, r, honest)
			return
		}
		honest.ServeHTTP(w, r)
	})
}

func (s *Server) begin() Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	s.inFlight++
	s.most = max(s.most, s.inFlight)
	return s.fault
}

func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
}
