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
	sockets     sync.WaitGroup // goroutines that serve sockets
}

type serverState struct {
	addr     string // "" until Start
	listener net.Listener
	stopped  bool
	conns    map[net.Conn]bool // open ones, through sockets or pipes
	fault    Fault             // nil: none
	requests int
	inFlight int
	most     int
}

func (s *Server) init(name string, certificate tls.Certificate, handler http.Handler) {
	s.name, s.certificate, s.handler = name, certificate, handler
	s.state.update(func(st *serverState) { st.conns = map[net.Conn]bool{} })
}

// host is where the server is reached: host, or host:port.
func (s *Server) host() string {
	if addr := s.state.get().addr; addr != "" {
		return addr
	}
	return s.name
}

// Requests is how often the JWKS was fetched or a grant was requested, faults
// included. Refused connections don't count.
func (s *Server) Requests() int { return s.state.get().requests }

// MostAtOnce is the largest number of those requests that were in flight at one
// time. A request is over before its client can have read the end of the answer.
func (s *Server) MostAtOnce() int { return s.state.get().most }

// Misbehave applies the fault to every request from the next on; nil is Behave.
func (s *Server) Misbehave(fault Fault) {
	s.state.update(func(st *serverState) { st.fault = fault })
}

// Behave ends Misbehave, from the next request on.
func (s *Server) Behave() { s.Misbehave(nil) }

// Stop refuses new connections and closes open ones. Stopping twice is fine.
func (s *Server) Stop() {
	var stopped serverState
	s.state.update(func(st *serverState) {
		stopped = *st
		st.stopped, st.listener, st.conns = true, nil, map[net.Conn]bool{}
	})
	if stopped.listener != nil {
		stopped.listener.Close()
	}
	for conn := range stopped.conns {
		conn.Close()
	}
}

// Restart undoes Stop, on the same port. It fails if another process has taken that
// port and keeps it for 2 s. Without Stop before it, it does nothing.
func (s *Server) Restart() error {
	st := s.state.get()
	if !st.stopped {
		return nil
	}
	if st.addr == "" {
		s.state.update(func(st *serverState) { st.stopped = false })
		return nil
	}
	err := s.listen(st.addr)
	for deadline := time.Now().Add(2 * time.Second); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
		err = s.listen(st.addr)
	}
	return err
}

func (s *Server) listen(addr string) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s.state.update(func(st *serverState) {
		st.addr, st.listener, st.stopped = listener.Addr().String(), listener, false
	})
	s.sockets.Go(func() { s.newHTTPServer().ServeTLS(listener, "", "") }) // until Stop
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

// track is called when a connection is accepted, before anything else, and when it is
// closed, after everything else.
func (s *Server) track(conn net.Conn, state http.ConnState) {
	_, socket := conn.(*tls.Conn) // a pipe ends with its synctest bubble, unwaited
	switch state {
	case http.StateNew:
		if socket {
			s.sockets.Add(1)
		}
		var stopped bool
		s.state.update(func(st *serverState) { st.conns[conn], stopped = true, st.stopped })
		if stopped {
			conn.Close()
		}
	case http.StateClosed:
		s.state.update(func(st *serverState) { delete(st.conns, conn) })
		if socket {
			s.sockets.Done()
		}
	}
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
		// The end of the answer is sent after this handler has returned, so a client
		// that has read it all and sends another request finds this one counted out.
		defer s.state.update(func(st *serverState) { st.inFlight-- })

		// net/http cancels the context of a closed connection only after the body was read.
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, "the body is too long or incomplete "+Canary, http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		handler := honest
		if fault != nil {
			handler = fault(honest)
		}
		handler.ServeHTTP(w, r)
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
