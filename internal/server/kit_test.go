package server

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

const (
	request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	post    = "POST / HTTP/1.1\r\nHost: x\r\n"
)

var hello = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	io.WriteString(w, "hello")
})

// panicAtPost writes nothing for other methods.
func panicAtPost(_ http.ResponseWriter, r *http.Request) {
	if r.Method == "POST" {
		panic("on purpose \u202e")
	}
}

// A pipeListener listens in memory, so that a server can run in a synctest bubble.
// It must be made there.
type pipeListener struct {
	conns  chan net.Conn
	closed context.Context
	close  context.CancelFunc
}

func newPipeListener() *pipeListener {
	closed, end := context.WithCancel(context.Background())
	return &pipeListener{make(chan net.Conn), closed, end}
}

// Accept returns the next connection. For nil it fails as with too many open files.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		if conn == nil {
			return nil, syscall.EMFILE
		}
		return conn, nil
	case <-l.closed.Done():
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error { l.close(); return nil }

func (l *pipeListener) Addr() net.Addr { return nil }

// dial connects a client once the server accepts it. If the listener is closed, so is the
// connection.
func (l *pipeListener) dial(t *testing.T) net.Conn {
	client, server := net.Pipe()
	t.Cleanup(func() { client.Close() })
	select {
	case l.conns <- server:
	case <-l.closed.Done():
		client.Close()
	}
	return client
}

// A testServer is a server under [Run].
type testServer struct {
	*pipeListener
	log     *standintest.Log
	stop    context.CancelFunc // begins the shutdown
	stopped time.Time          // when Stopping was called
	result  chan error         // of Run
}

// startServer runs a server in the test's bubble until the test ends; without a
// certificate it serves plain http.
func startServer(t *testing.T, handler http.HandlerFunc, certificate *Certificate) *testServer {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	s := &testServer{newPipeListener(), new(standintest.Log), stop, time.Time{}, make(chan error, 1)}
	logger := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	config := Server{
		Listener: s.pipeListener, Handler: handler, Certificate: certificate, Log: logger,
		Stopping: func() { s.stopped = time.Now() },
	}
	var running sync.WaitGroup
	running.Go(func() { s.result <- Run(ctx, config) })
	t.Cleanup(func() { stop(); running.Wait() })
	return s
}

// A response is what a client received; its status is 0 if that was no response.
type response struct {
	status int
	last   bool // it ends its connection
}

// send sends a request as it is written, and returns the response.
func send(conn net.Conn, request string) response {
	go io.WriteString(conn, request)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return response{}
	}
	io.Copy(io.Discard, resp.Body)
	return response{resp.StatusCode, resp.Close}
}

// wantResponse sends a request and checks the response.
func wantResponse(t *testing.T, name string, conn net.Conn, request string, want response) {
	t.Helper()
	if got := send(conn, request); got != want {
		t.Errorf("%s: response %+v, want %+v", name, got, want)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
