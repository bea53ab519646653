package server

import (
	"bufio"
	"context"
	"encoding/binary"
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
	"itwin-token-server/internal/telemetry"
)

const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// pipes is a listener in memory, so that a server can live in a synctest bubble.
// It must be made there.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

// A pipe has what a socket has.
type pipe struct{ net.Conn }

func (pipe) CloseWrite() error { return nil }

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		if conn == nil {
			return nil, syscall.EMFILE // a temporary error
		}
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.close(); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// dial connects a client; an error means that the listener is closed.
func (p *pipes) dial() (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- pipe{server}:
		return client, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) mustDial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := p.dial()
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// A running is a server under [Run].
type running struct {
	*pipes
	log     *standintest.Log
	stop    context.CancelFunc
	stopped time.Time  // when Stopping was called
	ended   chan error // what Run returned
}

// start runs a server over pipes in the test's bubble, until the test ends.
func start(t *testing.T, handler http.Handler, certificate ...*Certificate) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{pipes: newPipes(), log: new(standintest.Log), stop: cancel, ended: make(chan error, 1)}
	s := Server{Listener: r.pipes, Handler: handler, Log: logTo(r.log), Stopping: func() { r.stopped = time.Now() }}
	if len(certificate) > 0 {
		s.Certificate = certificate[0]
	}
	var all sync.WaitGroup
	all.Go(func() { r.ended <- Run(ctx, s) })
	t.Cleanup(func() { cancel(); all.Wait() })
	return r
}

// An answer is what a client received; its status is 0 if that was no answer.
type answer struct {
	status int
	body   string
	header http.Header
	last   bool // on its connection
}

// ask sends a request written by hand, and reads its answer.
func ask(conn net.Conn, request string) answer {
	go io.WriteString(conn, request)
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return answer{}
	}
	body, _ := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(body), resp.Header, resp.Close}
}

var hello = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" // of HTTP/2

// frame is one of HTTP/2 (RFC 9113 §4.1).
func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))[1:]
	return append(binary.BigEndian.AppendUint32(append(head, kind, flags), stream), payload...)
}

// logTo returns a logger that writes to a log that a test can read.
func logTo(log *standintest.Log) *slog.Logger { return telemetry.NewLog(log, "text", slog.LevelDebug) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantContains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("got %q, want %q in it", text, part)
		}
	}
}
