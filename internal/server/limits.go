package server

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
)

// Bounds on all connections together, which net/http does not have: an idle one
// over TLS takes 40 KiB, and a header of many short lines 20 times its size.
const (
	maxConnections  = 2200    // at once; further ones wait until they are accepted
	busyConnections = 2000    // above this, each answer ends its connection
	maxReceived     = 8 << 20 // bytes not yet answered, on all connections
	freeReceived    = 4 << 10 // bytes that each connection may send beyond that: a usual request
)

var errTooMuch = errors.New("too much received on all connections")

// A limitedListener keeps the bounds on its connections.
type limitedListener struct {
	net.Listener
	plain    bool          // not TLS, and so the answers can be seen
	open     chan struct{} // one element for each connection
	closed   chan struct{}
	close    func()
	received atomic.Int64 // bytes not yet answered
}

func limit(l net.Listener, plain bool) *limitedListener {
	closed := make(chan struct{})
	return &limitedListener{
		Listener: l, plain: plain, open: make(chan struct{}, maxConnections),
		closed: closed, close: sync.OnceFunc(func() { close(closed) }),
	}
}

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.open <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.open
		return nil, err
	}
	return &limitedConn{Conn: conn, listener: l}, nil
}

func (l *limitedListener) Close() error {
	l.close()
	return l.Listener.Close()
}

// busy reports whether connections should end with the next answer. One place is
// taken by the connection that Accept waits for.
func (l *limitedListener) busy() bool { return len(l.open) > busyConnections }

type limitedConn struct {
	net.Conn
	listener *limitedListener

	mu       sync.Mutex // guards what follows
	received int64      // since the last answer
	closed   bool
}

func (c *limitedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return n, err
	}
	c.received += int64(n)
	if c.listener.received.Add(int64(n)) > maxReceived && c.received > freeReceived {
		return 0, errTooMuch
	}
	return n, err
}

func (c *limitedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.answered()
	c.mu.Unlock()
	if c.listener.plain {
		if answer, ok := addHeaders(p); ok {
			_, err := c.Conn.Write(answer)
			return len(p), err
		}
	}
	return c.Conn.Write(p)
}

// answered stops counting what was received; c.mu is held.
func (c *limitedConn) answered() {
	c.listener.received.Add(-c.received)
	c.received = 0
}

func (c *limitedConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		c.answered()
		<-c.listener.open
	}
	return c.Conn.Close()
}

// CloseWrite lets net/http end an answer before the client has sent everything.
func (c *limitedConn) CloseWrite() error {
	if conn, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return errors.ErrUnsupported
}
