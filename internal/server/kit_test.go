package server

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

var hello = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	io.WriteString(w, "hello")
})

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

// dial connects a client once the server accepts it, or returns nil if the listener is closed.
func (l *pipeListener) dial(t *testing.T) net.Conn {
	client, server := net.Pipe()
	t.Cleanup(func() { client.Close() })
	select {
	case l.conns <- server:
		return client
	case <-l.closed.Done():
		return nil
	}
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
func startServer(t *testing.T, handler http.Handler, certificate *Certificate) *testServer {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	s := &testServer{newPipeListener(), new(standintest.Log), stop, time.Time{}, make(chan error, 1)}
	config := Server{
		Listener: s.pipeListener, Handler: handler, Certificate: certificate, Log: newLog(s.log),
		Stopping: func() { s.stopped = time.Now() },
	}
	var running sync.WaitGroup
	running.Go(func() { s.result <- Run(ctx, config) })
	t.Cleanup(func() { stop(); running.Wait() })
	return s
}

// newLog returns a logger for a log that a test can read.
func newLog(log *standintest.Log) *slog.Logger {
	return slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// A response is what a client received; its status is 0 if that was no response.
type response struct {
	status int
	header http.Header
	last   bool // it ends its connection
}

// send sends a request as it is written, and returns the response.
func send(conn net.Conn, request string) response {
	if conn == nil {
		return response{}
	}
	go io.WriteString(conn, request)
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return response{}
	}
	io.Copy(io.Discard, resp.Body)
	return response{resp.StatusCode, resp.Header, resp.Close}
}

func wantStatus(t *testing.T, what string, got response, want int) {
	t.Helper()
	if got.status != want {
		t.Errorf("%s: status %d, want %d", what, got.status, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
