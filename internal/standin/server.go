package standin

import (
	"bytes"
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
	// maxBody is the limit of a request's body. A grant takes less than 1 KiB.
	maxBody = 64 << 10
	// elsewhere is a path that serves honest answers, uncounted. Redirect(elsewhere)
	// shows a client that follows redirects: it gets a good answer.
	elsewhere = "/elsewhere"
)

// Server is what the tenant and the IMS have in common: the address, the counts and
// the fault. It speaks HTTP/1.1 with a connection for each request, so that a client
// never repeats a request by itself, uncounted, after it met a closed connection.
type Server struct {
	name        string // the host until Start
	certificate tls.Certificate
	handler     http.Handler
	state       locked[serverState]
}

type serverState struct {
	host     string // the name, or after Start host:port
	listener net.Listener
	stopped  bool
	conns    map[net.Conn]bool // open ones, through sockets or pipes
	fault    Fault             // nil: none
	requests int
	inFlight int
	most     int
}

// init makes the server answer requests like "GET" and "/path" honestly.
func (s *Server) init(name string, certificate tls.Certificate, method, path string, honest http.HandlerFunc) {
	mux := http.NewServeMux()
	mux.Handle(method+" "+path, s.endpoint(honest))
	mux.Handle(method+" "+elsewhere, honest)
	s.name, s.certificate, s.handler = name, certificate, mux
	s.state.v = serverState{host: name, conns: map[net.Conn]bool{}}
}

func (s *Server) host() string { return s.state.get().host }

// Requests is the number of key fetches or grants, faults included. Refused
// connections don't count.
func (s *Server) Requests() int { return s.state.get().requests }

// MostAtOnce is the largest number of those requests that were in flight at one time.
func (s *Server) MostAtOnce() int { return s.state.get().most }

// Misbehave applies the fault to every request from the next on; nil is Behave.
func (s *Server) Misbehave(fault Fault) {
	s.state.update(func(st *serverState) { st.fault = fault })
}

// Behave ends Misbehave, from the next request on.
func (s *Server) Behave() { s.Misbehave(nil) }

// Stop refuses new connections and closes open ones. Stopping twice is fine.
func (s *Server) Stop() {
	var open []io.Closer
	s.state.update(func(st *serverState) {
		for conn := range st.conns {
			open = append(open, conn)
		}
		if st.listener != nil {
			open = append(open, st.listener)
		}
		st.stopped = true
	})
	for _, closer := range open {
		closer.Close()
	}
}

// Restart undoes Stop, on the same port. It fails if that is in use for 2 s. Without
// Stop before it, it does nothing.
func (s *Server) Restart() error {
	st := s.state.get()
	if !st.stopped {
		return nil
	}
	if st.listener == nil {
		s.state.update(func(st *serverState) { st.stopped = false })
		return nil
	}
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := s.listen(st.host)
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
	s.state.update(func(st *serverState) {
		st.host, st.listener, st.stopped = listener.Addr().String(), listener, false
	})
	go s.newHTTPServer().ServeTLS(listener, "", "") // until Stop
	return nil
}

func (s *Server) newHTTPServer() *http.Server {
	server := &http.Server{
		Handler:   s.handler,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{s.certificate}},
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
	var stopped bool
	s.state.update(func(st *serverState) {
		switch state {
		case http.StateNew:
			st.conns[conn], stopped = true, st.stopped
		case http.StateClosed:
			delete(st.conns, conn)
		}
	})
	if stopped {
		conn.Close()
	}
}

// open is the number of connections.
func (s *Server) open() (n int) {
	s.state.update(func(st *serverState) { n = len(st.conns) })
	return n
}

// endpoint counts the requests to a handler and applies the fault to them.
func (s *Server) endpoint(honest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var fault Fault
		s.state.update(func(st *serverState) {
			st.requests++
			st.inFlight++
			st.most = max(st.most, st.inFlight)
			fault = st.fault
		})
		// Before the end of the answer is sent, and so before a client's next request.
		defer s.state.update(func(st *serverState) { st.inFlight-- })

		// net/http cancels the context of a closed connection only after the body was read.
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, "the body is too long or incomplete "+Canary, http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if fault != nil {
			fault(w, r, honest)
			return
		}
		honest.ServeHTTP(w, r)
	})
}

// locked is a value for concurrent use.
type locked[T any] struct {
	mu sync.Mutex // held for no longer than a few assignments take
	v  T
}

// get returns a shallow copy.
func (l *locked[T]) get() T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.v
}

func (l *locked[T]) update(change func(*T)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.v)
}
