package server

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"
)

// A limitedListener keeps at most maxConnections connections open, which net/http
// cannot do. It takes a slot before it accepts a connection, so that further ones wait
// in the system's queue. [http.Server] tells connState when a connection is closed.
type limitedListener struct {
	net.Listener
	slots  chan struct{}   // one for each open connection, and one for the Accept in progress
	closed context.Context // done once the listener is closed
	end    context.CancelFunc
}

func limit(l net.Listener) *limitedListener {
	closed, end := context.WithCancel(context.Background())
	return &limitedListener{l, make(chan struct{}, maxConnections), closed, end}
}

// Accept waits for a free slot, then for a connection.
func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed.Done():
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
	}
	return conn, err
}

// Close also ends an Accept that waits for a slot. The port is closed first, so that no
// client whose connection is then ended can connect again.
func (l *limitedListener) Close() error {
	defer l.end()
	return l.Listener.Close()
}

// connState gives back the slot of a closed connection. It is for [http.Server].
func (l *limitedListener) connState(_ net.Conn, state http.ConnState) {
	if state == http.StateClosed {
		<-l.slots
	}
}

// handler passes requests to next, with answers that can end their connection.
func (l *limitedListener) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := answer{w, r, l}
		next.ServeHTTP(a, r)
		a.endConnection() // for a handler that has written nothing
	})
}

// An answer decides whether it ends its connection when its header is written, not when
// the request comes: the request may wait for seconds, and a shutdown may begin meanwhile.
type answer struct {
	http.ResponseWriter
	request  *http.Request
	listener *limitedListener
}

// endConnection ends the connection with the answer once the port is closed, so that
// clients leave between two requests, and while most slots are taken, so that others are
// accepted.
//
// It also does so if a body may follow the request, because it is not read. net/http ignores
// Transfer-Encoding in HTTP/1.0, and hides it from the handler: a chunked body would be taken
// for the next request. So no connection of HTTP/1.0 is kept (RFC 9112 §6.1). Before net/http
// closes a connection it waits for the end of the body: the deadline bounds that.
func (a answer) endConnection() {
	mayHaveBody := a.request.ContentLength != 0 || !a.request.ProtoAtLeast(1, 1)
	if mayHaveBody || a.listener.closed.Err() != nil || len(a.listener.slots) > crowded {
		a.Header().Set("Connection", "close") // no effect once the header is written
		http.NewResponseController(a.ResponseWriter).SetReadDeadline(time.Now().Add(bodyTimeout))
	}
}

func (a answer) WriteHeader(status int) {
	a.endConnection()
	a.ResponseWriter.WriteHeader(status)
}

func (a answer) Write(p []byte) (int, error) {
	a.endConnection()
	return a.ResponseWriter.Write(p)
}

// WriteString saves a copy of each token.
func (a answer) WriteString(s string) (int, error) {
	a.endConnection()
	return io.WriteString(a.ResponseWriter, s)
}
