package standin

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// restartPatience is how long Restart waits for its port to be free again.
	restartPatience = 2 * time.Second
	// headerPatience frees connections that never ask for anything.
	headerPatience = 10 * time.Second
)

// errCut is what a client sees whose connection Stop cut.
var errCut error = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}

// Server is what the tenant and the IMS have in common: where they listen, whom
// they counted, and how they misbehave. Over sockets it speaks HTTP/1.1 with a
// connection for each request, so that a client never repeats, by itself and
// uncounted by its owner, a request that met a closed connection.
type Server struct {
	name string // until it listens
	ca   *authority
	mux  http.Handler

	conns sync.WaitGroup // of every socket, beyond Stop

	mu       sync.Mutex // guards what follows; never held while anything waits
	addr     string     // "" until it has listened
	listener *listener  // nil unless it listens
	down     bool
	inside   map[*visit]struct{} // under way by Transport
	fault    Fault               // nil: behave
	requests int
	now      int
	most     int
}

// listener is one span between listening and Stop.
type listener struct {
	server *http.Server
	cancel context.CancelFunc // ends the requests' contexts
	served chan struct{}      // closed when nothing is accepted any more
}

// visit is a request under way by Transport. Stop ends it.
type visit struct{ cancel context.CancelCauseFunc }

func (s *Server) set(name string, ca *authority, mux http.Handler) {
	s.name, s.ca, s.mux = name, ca, mux
	s.inside = map[*visit]struct{}{}
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

// Requests is how often the JWKS was fetched, or a grant asked for, faults included.
// Connections refused don't count.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// MostAtOnce is the largest number of those that were under way at one time. One
// is over before its client has the last of the answer, or when its client leaves.
func (s *Server) MostAtOnce() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

// Misbehave makes every request from the next on meet the fault; nil is Behave.
func (s *Server) Misbehave(fault Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// Behave ends Misbehave, from the next request on.
func (s *Server) Behave() { s.Misbehave(nil) }

// Stop refuses connections and cuts those that are open. Stopping twice is fine.
func (s *Server) Stop() {
	s.mu.Lock()
	s.down = true
	l, inside := s.listener, s.inside
	s.listener, s.inside = nil, map[*visit]struct{}{}
	s.mu.Unlock()

	for v := range inside {
		v.cancel(errCut)
	}
	if l != nil {
		l.server.Close() // first: a fault that sees its context end answers nobody
		l.cancel()
		<-l.served
	}
}

// Restart undoes Stop, on the same port. It fails if somebody else has taken that
// port and keeps it for 2 s. Restarting what runs does nothing.
func (s *Server) Restart() error {
	s.mu.Lock()
	addr, down := s.addr, s.down
	if addr == "" {
		s.down = false
	}
	s.mu.Unlock()
	if addr == "" || !down {
		return nil
	}
	deadline := time.Now().Add(restartPatience)
	for {
		err := s.listen(addr)
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *Server) start() error {
	s.mu.Lock()
	started := s.addr != ""
	s.mu.Unlock()
	if started {
		return errStarted
	}
	return s.listen("127.0.0.1:0")
}

func (s *Server) listen(addr string) error {
	socket, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &listener{cancel: cancel, served: make(chan struct{}), server: &http.Server{
		Handler:           s.mux,
		TLSConfig:         s.ca.tls(),
		Protocols:         new(http.Protocols),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState:         s.track,
		ReadHeaderTimeout: headerPatience,
		ErrorLog:          log.New(io.Discard, "", 0), // clients that leave are the point, not news
	}}
	l.server.Protocols.SetHTTP1(true)
	l.server.SetKeepAlivesEnabled(false)

	s.mu.Lock()
	s.addr, s.listener, s.down = socket.Addr().String(), l, false
	s.mu.Unlock()
	go func() {
		defer close(l.served)
		defer socket.Close()
		l.server.ServeTLS(socket, "", "") // ends with http.ErrServerClosed, always
	}()
	return nil
}

// track counts connections for Close: a connection's goroutine says StateNew before
// it starts, and one of the others last of all.
func (s *Server) track(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.conns.Done()
	}
}

// admit lets a request in that comes without a socket; false while stopped.
func (s *Server) admit(v *visit) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return false
	}
	s.inside[v] = struct{}{}
	return true
}

func (s *Server) dismiss(v *visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.inside, v)
}
