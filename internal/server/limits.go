package server

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"sync/atomic"
)

// Bounds on all connections together, which net/http does not have. It keeps what
// it has read of a header until the header is complete, and many short lines take
// 20 times their size.
const (
	maxConnections = 2500    // open at once; further ones wait to be accepted
	maxReceived    = 8 << 20 // bytes of requests that are not answered yet
	freeReceived   = 4 << 10 // bytes that each connection may send beyond that: a usual request
)

var errTooMuch = errors.New("too many unanswered bytes on all connections")

// A limitedListener keeps the bounds on its connections.
type limitedListener struct {
	net.Listener
	slots    chan struct{} // one element for each open connection
	done     chan struct{} // closed by Close
	end      func()        // closes done
	received atomic.Int64  // bytes not answered yet
	headers  []byte        // for answers that net/http gives before any handler
}

// limit limits l; headers are lines for answers over plain http.
func limit(l net.Listener, headers string) *limitedListener {
	done := make(chan struct{})
	return &limitedListener{
		Listener: l, slots: make(chan struct{}, maxConnections), headers: []byte("\r\n" + headers),
		done: done, end: sync.OnceFunc(func() { close(done) }),
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
	return &limitedConn{socket: conn.(socket), listener: l}, nil
}

func (l *limitedListener) Close() error {
	l.end()
	return l.Listener.Close()
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
func (c *limitedConn) answered() { c.listener.received.Add(-c.received.Swap(0)) }

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
	c.answered()
	refused := bytes.HasPrefix(p, []byte("HTTP/1.1 4")) || bytes.HasPrefix(p, []byte("HTTP/1.1 5"))
	if !refused || bytes.Contains(p, []byte("Cache-Control: ")) {
		return c.socket.Write(p)
	}
	_, err := c.socket.Write(bytes.Replace(p, []byte("\r\n"), c.listener.headers, 1))
	return len(p), err
}
