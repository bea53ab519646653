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
	"testing"

	"itwin-token-server/internal/telemetry"
)

// pipes is a listener in memory, so that a server can live in a synctest bubble.
// It must be made there.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
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
	case p.conns <- server:
		return client, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) mustDial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := p.dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// client makes each of its requests on a connection of its own.
func (p *pipes) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return p.dial() },
		DisableKeepAlives: true,
	}}
}

// A running is a server under [Run].
type running struct {
	*pipes
	log     *logBuffer
	stop    context.CancelFunc
	stopped chan struct{} // closed by Stopping
	ended   chan error    // what Run returned
}

// start runs a server over pipes in the test's bubble, until the test ends.
func start(t *testing.T, handler http.Handler, certificate ...*Certificate) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{pipes: newPipes(), log: new(logBuffer), stop: cancel, stopped: make(chan struct{}), ended: make(chan error, 1)}
	s := Server{Listener: r.pipes, Handler: handler, Log: r.log.logger(), Stopping: func() { close(r.stopped) }}
	if len(certificate) > 0 {
		s.Certificate = certificate[0]
	}
	var all sync.WaitGroup
	all.Go(func() { r.ended <- Run(ctx, s) })
	t.Cleanup(func() { cancel(); all.Wait() })
	return r
}

// get returns the status and the body of a GET, or "" and the error.
func get(client *http.Client, url string) (string, error) {
	resp, err := client.Get(url)
	return text(resp, err)
}

// answer reads one answer from a connection.
func answer(conn io.Reader) (string, error) {
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	return text(resp, err)
}

func text(resp *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.Status + " " + string(body), err
}

// exchange sends a request written by hand, and reads the head of its answer.
func exchange(t *testing.T, conn net.Conn, request string) *http.Response {
	t.Helper()
	go io.WriteString(conn, request)
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%.60q: %v", request, err)
	}
	return resp
}

var hello = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })

// A logBuffer is a log that a test can read.
type logBuffer struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *logBuffer) logger() *slog.Logger { return telemetry.NewLog(b, "text", slog.LevelDebug) }

func wantContains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("got %q, want %q in it", text, part)
		}
	}
}
