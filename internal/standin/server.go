package standin

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

const (
	// restartTimeout is how long Restart waits for its port to be free again.
	restartTimeout = 2 * time.Second
	// readHeaderTimeout closes connections that send no request.
	readHeaderTimeout = 10 * time.Second
)

// Server is what the tenant and the IMS have in common: the address, the counts and
// the fault. It speaks HTTP/1.1 with a connection for each request, so that a client
// never repeats a request by itself, uncounted, after it met a closed connection.
type Server struct {
	name    string // the host until it listens
	tls     *tls.Config
	handler http.Handler

	sockets sync.WaitGroup // goroutines that serve sockets

	mu       sync.Mutex // guards what follows; never held during I/O
	addr     string     // "" until Start
	listener net.Listener
	stopped  bool
	servers  map[*http.Server]struct{} // the one that listens, and one per connection of Transport
	fault    Fault                     // nil: none
	requests int
	inFlight int
	most     int
}

func (s *Server) init(name string, config *tls.Config, handler http.Handler) {
	s.name, s.tls, s.handler = name, config, handler
	s.servers = map[*http.Server]struct{}{}
}

// host is where the server is reached: host, or host:port.
func (s *Server) host() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.addr == "" {
		return s.name
	}
	return s.addr
}

// Requests is how often the JWKS was fetched or a grant was requested, faults
// included. Refused connections don't count.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// MostAtOnce is the largest number of those requests that were in flight at one
// time. A request is over before its client can have read the end of the answer.
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
	listener, servers := s.listener, s.servers
	s.listener, s.servers = nil, map[*http.Server]struct{}{}
	s.mu.Unlock()

	if listener != nil {
		listener.Close()
	}
	for server := range servers {
		server.Close()
	}
}

// Restart undoes Stop, on the same port. It fails if another process has taken that
// port and keeps it for 2 s. Without Stop before it, it does nothing.
func (s *Server) Restart() error {
	s.mu.Lock()
	addr, stopped := s.addr, s.stopped
	if addr == "" {
		s.stopped = false
	}
	s.mu.Unlock()
	if addr == "" || !stopped {
		return nil
	}
	deadline := time.Now().Add(restartTimeout)
	for {
		err := s.listen(addr)
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *Server) start() error {
	if s.host() != s.name {
		return errStarted
	}
	return s.listen("127.0.0.1:0")
}

func (s *Server) listen(addr string) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	server := s.newHTTPServer()
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state { // the first and the last one of a connection
		case http.StateNew:
			s.sockets.Add(1)
		case http.StateClosed:
			s.sockets.Done()
		}
	}
	s.mu.Lock()
	s.addr, s.listener, s.stopped = listener.Addr().String(), listener, false
	s.servers[server] = struct{}{}
	s.mu.Unlock()
	s.sockets.Go(func() { server.ServeTLS(listener, "", "") }) // until Stop
	return nil
}

func (s *Server) newHTTPServer() *http.Server {
	server := &http.Server{
		Handler:           s.handler,
		TLSConfig:         s.tls,
		Protocols:         new(http.Protocols),
		ReadHeaderTimeout: readHeaderTimeout,
		ErrorLog:          log.New(io.Discard, "", 0), // faults make net/http log errors
	}
	server.Protocols.SetHTTP1(true)
	server.SetKeepAlivesEnabled(false)
	return server
}

// add registers a server for Stop, unless the server is stopped already.
func (s *Server) add(server *http.Server) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.servers[server] = struct{}{}
	}
	return !s.stopped
}

func (s *Server) remove(server *http.Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.servers, server)
}
