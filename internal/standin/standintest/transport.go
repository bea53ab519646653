package standintest

import (
	"context"
	"net"
	"net/http"
	"os"
	"syscall"
)

// Transport reaches both servers without sockets, under the names they have before
// they listen and those they have after. It is an [http.Transport] over [net.Pipe] with a
// real [http.Server] behind it, so answers, errors and compression are as over sockets,
// but for TLS. Another host does not exist.
//
// All channels, timers and goroutines are made within RoundTrip, so in the caller's
// synctest bubble. Close the response's body, or goroutines are left waiting.
func (s *Standin) Transport() http.RoundTripper {
	return &http.Transport{
		DisableKeepAlives: true, // no connection outlives its bubble
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, errRefused // nothing serves plain http
		},
		DialTLSContext: func(_ context.Context, _, addr string) (net.Conn, error) {
			for _, server := range []*Server{&s.Tenant.Server, &s.IMS.Server} {
				if server.isAt(addr) {
					return server.dial()
				}
			}
			host, _, _ := net.SplitHostPort(addr)
			unknown := &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: unknown}
		},
	}
}

// errRefused is what net.Dial returns where nothing listens.
var errRefused error = &net.OpError{
	Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED),
}

func (s *Server) isAt(addr string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return addr == s.name+":443" || addr == s.host
}

// dial connects to the server through a pipe.
func (s *Server) dial() (net.Conn, error) {
	s.mu.Lock()
	stopped := s.stopped
	s.mu.Unlock()
	if stopped {
		return nil, errRefused
	}
	client, server := net.Pipe()
	listener := make(pipeListener, 1)
	listener <- server
	s.newHTTPServer().Serve(listener) // returns when the connection has its goroutine
	return client, nil
}

// pipeListener accepts the connections that it holds.
type pipeListener chan net.Conn

func (l pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l:
		return conn, nil
	default:
		return nil, net.ErrClosed
	}
}

func (pipeListener) Close() error   { return nil }
func (pipeListener) Addr() net.Addr { return nil }
