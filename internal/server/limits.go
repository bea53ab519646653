package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// Bounds on all connections together, which net/http does not have. It keeps what
// it has read of a header until the header is complete, and many short lines take
// 20 times their size. Over HTTP/2, a few bytes can stand for 32 KiB of headers.
const (
	maxConnections = 2500                    // open at once; further ones wait to be accepted
	crowded        = maxConnections * 9 / 10 // more open than this: an answer ends its connection, to let others in
	maxRequests    = 2500                    // in progress over HTTP/2; further ones are reset
	maxReceived    = 8 << 20                 // bytes of requests that are not answered yet
	freeReceived   = 4 << 10                 // bytes that each connection may send beyond that: a usual request
)

var errTooMuch = errors.New("too many unanswered bytes on all connections")

// A limitedListener keeps the bounds on its connections.
type limitedListener struct {
	net.Listener
	slots    chan struct{} // one element for each open connection
	requests chan struct{} // one element for each request over HTTP/2
	done     chan struct{} // closed by Close
	end      func()        // closes done
	silent   atomic.Int64  // connections that have had no answer yet
	received atomic.Int64  // bytes not answered yet
	headers  []byte        // for answers that net/http gives before any handler
}

// limit limits l; headers are lines for answers over plain http.
func limit(l net.Listener, headers string) *limitedListener {
	done := make(chan struct{})
	return &limitedListener{
		Listener: l, slots: make(chan struct{}, maxConnections), requests: make(chan struct{}, maxRequests),
		headers: []byte("\r\n" + headers), done: done, end: sync.OnceFunc(func() { close(done) }),
	}
}

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done: // a shutdown does not wait for a slot
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	l.silent.Add(1)
	return &limitedConn{socket: conn.(socket), listener: l}, nil
}

func (l *limitedListener) Close() error {
	l.end()
	return l.Listener.Close()
}

// connKey is the key of a request's connection in its context.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	if over, ok := c.(*tls.Conn); ok {
		c = over.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}

// handler passes requests to next within the bounds. Once ctx has ended, each answer
// ends its connection, so that clients that keep connections busy leave between two
// requests.
func (l *limitedListener) handler(ctx context.Context, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Not in Write: over TLS and HTTP/2 most of what is written answers no request.
		defer r.Context().Value(connKey{}).(*limitedConn).answered()
		if ctx.Err() != nil || len(l.slots) > crowded || bodyMayFollow(r) {
			w.Header().Set("Connection", "close")
		}
		if r.ProtoMajor == 2 {
			l.serveHTTP2(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// serveHTTP2 resets a request over the bound. A request is in progress until the
// client has received its answer.
func (l *limitedListener) serveHTTP2(w http.ResponseWriter, r *http.Request, next http.Handler) {
	select {
	case l.requests <- struct{}{}:
	default:
		panic(http.ErrAbortHandler)
	}
	defer func() { <-l.requests }()
	next.ServeHTTP(w, r)
	r.Header = nil // of no use while the client delays its answer
	http.NewResponseController(w).Flush()
}

// A socket can end its sending half, so that net/http can end an answer before the
// client has sent everything.
type socket interface {
	net.Conn
	CloseWrite() error
}

type limitedConn struct {
	socket
	listener *limitedListener
	received atomic.Int64 // bytes since the last answer
	served   atomic.Bool  // has had an answer, or is closed
	closed   atomic.Bool
}

func (c *limitedConn) Read(p []byte) (int, error) {
	n, err := c.socket.Read(p)
	own, all := c.received.Add(int64(n)), c.listener.received.Add(int64(n))
	if c.closed.Load() { // Close may have counted before this Read
		c.answered()
	}
	if own > freeReceived && all > maxReceived {
		return 0, errTooMuch
	}
	return n, err
}

// answered ends the counting of what was received.
func (c *limitedConn) answered() {
	c.listener.received.Add(-c.received.Swap(0))
	if !c.served.Swap(true) {
		c.listener.silent.Add(-1)
	}
}

func (c *limitedConn) Close() error {
	if !c.closed.Swap(true) {
		defer func() { <-c.listener.slots }()
	}
	c.answered()
	return c.socket.Close()
}

// Write adds the headers to an answer of net/http itself, such as 400, 417 or
// 431. All others have them.
func (c *limitedConn) Write(p []byte) (int, error) {
	refused := len(p) > len("HTTP/1.1 ") && bytes.HasPrefix(p, []byte("HTTP/1.")) && (p[9] == '4' || p[9] == '5')
	if !refused || bytes.Contains(p, []byte("Cache-Control: ")) {
		return c.socket.Write(p)
	}
	_, err := c.socket.Write(bytes.Replace(p, []byte("\r\n"), c.listener.headers, 1))
	return len(p), err
}
