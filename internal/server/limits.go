package server

import (
	"bytes"
	"errors"
	"net"
	"slices"
	"sync"
)

// maxConnections is how many connections are open at once; further ones wait to
// be accepted. It bounds the memory for headers that are never completed, of
// which net/http may need 100 KiB for one connection.
const maxConnections = 2500

// A limitedListener accepts at most maxConnections at once.
type limitedListener struct {
	net.Listener
	slots   chan struct{} // one element for each open connection
	headers []byte        // for answers that net/http gives before any handler
}

// limit limits l; headers are lines for answers over plain http.
func limit(l net.Listener, headers string) *limitedListener {
	return &limitedListener{l, make(chan struct{}, maxConnections), []byte(headers)}
}

func (l *limitedListener) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: conn, headers: l.headers, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

type limitedConn struct {
	net.Conn
	headers []byte
	release func()
}

func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// CloseWrite lets net/http end an answer before the client has sent everything.
func (c *limitedConn) CloseWrite() error {
	if conn, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Write adds the headers to an answer of net/http itself, such as 400, 417 or
// 431. All others have them.
func (c *limitedConn) Write(p []byte) (int, error) {
	status, rest, _ := bytes.Cut(p, []byte("\r\n"))
	if len(c.headers) == 0 || !bytes.HasPrefix(status, []byte("HTTP/1.1 ")) || bytes.Contains(rest, []byte("Cache-Control: no-store\r\n")) {
		return c.Conn.Write(p)
	}
	if _, err := c.Conn.Write(slices.Concat(status, []byte("\r\n"), c.headers, rest)); err != nil {
		return 0, err
	}
	return len(p), nil
}
