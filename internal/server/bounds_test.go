package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

func TestSlowSendersAreCutOff(t *testing.T) {
	for _, test := range []struct {
		name, first, step string // a step is sent each second
		want              time.Duration
	}{
		{"a header that never ends", "GET / HTTP/1.1\r\nHost: x\r\n", "X-A: b\r\n", 10 * time.Second},
		{"a request line, a byte a second", "GET /", "a", 10 * time.Second},
		{"a body, a byte a second", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", "a", 30 * time.Second},
		{"chunks, one a second", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n", 30 * time.Second},
		{"nothing", "", "", 10 * time.Second},
		{"nothing after an answer", request, "", 2 * time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// A handler that reads the body is the worst case.
				conn := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })).mustDial(t)
				begun := time.Now()
				go func() {
					for _, err := io.WriteString(conn, test.first); err == nil && test.step != ""; _, err = io.WriteString(conn, test.step) {
						time.Sleep(time.Second)
					}
				}()
				io.Copy(io.Discard, conn) // until it is closed
				if got := time.Since(begun); got != test.want {
					t.Errorf("closed after %v, want %v", got, test.want)
				}
				time.Sleep(time.Second) // the sender must end in the bubble
			})
		})
	}
}

func TestClientThatDoesNotReadIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrote := make(chan error, 1)
		conn := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, err := io.WriteString(w, strings.Repeat("x", 1<<20))
			wrote <- err
		})).mustDial(t)
		begun := time.Now()
		io.WriteString(conn, request)
		if err := <-wrote; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) != 30*time.Second {
			t.Errorf("the handler's write ended with %v after %v, want a timeout after 30s", err, time.Since(begun))
		}
	})
}

// Where most connections are taken, an answer ends its connection; where all are, a
// further one waits.
func TestConnectionsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, begun := start(t, hello), time.Now()
		r.conns <- nil // fails, and takes no slot
		silent := r.mustDial(t)
		for range 2247 { // another slot is of the connection that is accepted next
			r.mustDial(t)
		}
		for _, last := range []bool{false, true} { // the 2,249th, and the next one
			conn := r.mustDial(t)
			if got := ask(conn, request); got.status != 200 || got.last != last {
				t.Errorf("got %d, the last on its connection: %v, want %v", got.status, got.last, last)
			}
		}
		for range 251 {
			r.mustDial(t)
		}
		if took := time.Since(begun); took > time.Second {
			t.Errorf("2500 connections waited %v, want no wait", took)
		}
		waiting := make(chan int, 1)
		go func() {
			conn, _ := r.dial()
			waiting <- ask(conn, request).status
		}()
		synctest.Wait()
		if len(waiting) > 0 {
			t.Errorf("2500 connections are open, and another got %d, want it to wait", <-waiting)
		}
		silent.Close()
		if got := <-waiting; got != 200 {
			t.Errorf("a connection has ended, and another got %d, want 200", got)
		}
		r.mustDial(t)
		r.stop() // full again: a shutdown does not wait for a free slot
		begun = time.Now()
		if err := <-r.ended; err != nil || time.Since(begun) > 10*time.Second {
			t.Errorf("Run returned %v after %v, want nil within 10s", err, time.Since(begun))
		}
	})
}

// Many unfinished headers: connections that send much are closed, and usual
// requests are answered.
func TestUnansweredBytesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, hello)
		long := strings.TrimSuffix(request, "\r\n") + "X-A: " + strings.Repeat("a", 14<<10)
		closed := make(chan bool, maxConnections)
		send := func(n int) {
			for range n {
				conn := r.mustDial(t)
				go io.WriteString(conn, long)
				go func() {
					io.Copy(io.Discard, conn)
					closed <- true
				}()
			}
			synctest.Wait()
		}
		send(maxReceived / len(long))
		if len(closed) > 0 {
			t.Errorf("%d connections were closed, want none yet", len(closed))
		}
		send(10)
		if len(closed) < 9 {
			t.Errorf("%d connections were closed, want 9 or more of 10", len(closed))
		}
		usual := "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + strings.Repeat("a", 3<<10)
		var conn net.Conn
		for range 10 { // together they exceed the bound
			conn = r.mustDial(t)
			io.WriteString(conn, usual)
		}
		for _, rest := range []string{"\r\n\r\n", usual + "\r\n\r\n", usual + "\r\n\r\n"} { // each answer ends the counting
			if got := ask(conn, rest).status; got != 200 {
				t.Errorf("a usual request: got %d, want 200", got)
			}
		}
		time.Sleep(headerTimeout)
		for range 10 {
			if got := ask(r.mustDial(t), long+"\r\n\r\n").status; got != 200 {
				t.Errorf("afterwards: got %d, want 200", got)
			}
		}
	})
}

var _ interface{ CloseWrite() error } = (*limitedConn)(nil) // for net/http

// A socket that is closed during a Read, which still receives something.
type closedInRead struct{ socket }

func (s closedInRead) Read(p []byte) (int, error) { return len(p), s.socket.Close() }
func (closedInRead) Close() error                 { return nil }

func (closedInRead) Write(p []byte) (int, error) { return len(p), nil }

func TestReadDuringCloseIsNotCounted(t *testing.T) {
	l := limit(nil, "")
	l.slots <- struct{}{}
	l.silent.Add(1)
	c := &limitedConn{listener: l}
	c.socket = closedInRead{c} // closes c itself
	c.Read(make([]byte, 100))
	if l.received.Load() != 0 || l.silent.Load() != 0 || len(l.slots) > 0 {
		t.Errorf("%d bytes, %d silent of %d connections are still counted, want none", l.received.Load(), l.silent.Load(), len(l.slots))
	}
}

// Over TLS a client can make the server write without any request.
func TestOnlyAnAnswerEndsTheCounting(t *testing.T) {
	l := limit(nil, "")
	c := &limitedConn{listener: l, socket: closedInRead{}}
	c.received.Store(100)
	c.Write([]byte("a record"))
	if got := c.received.Load(); got != 100 {
		t.Errorf("after a write %d bytes are counted, want 100", got)
	}
}

// A panic is logged in one line of bounded length, and others are served. What
// clients cause is logged for debugging only.
func TestErrorLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/panic" {
				panic("on purpose \u202e" + strings.Repeat("long ", 1000))
			}
			hello(w, r)
		}))
		if got := ask(r.mustDial(t), "GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").status; got != 0 {
			t.Errorf("got %d, want a broken connection", got)
		}
		if got := ask(r.mustDial(t), request).status; got != 200 {
			t.Errorf("after the panic: got %d, want 200", got)
		}
		log := r.log.String()
		wantContains(t, log, "level=ERROR", "http: panic", `on purpose \\u202e`)
		if strings.Count(log, "\n") != 1 || len(log) > 4<<10+200 {
			t.Errorf("%d lines, %d bytes; want 1, about 4 KiB", strings.Count(log, "\n"), len(log))
		}
	})
	log := new(standintest.Log)
	to := newServer(t.Context(), limit(nil, ""), hello, logTo(log)).ErrorLog
	to.Print("http: TLS handshake error from 10.0.0.1:1: \x1b[31mEOF")
	wantContains(t, log.String(), "level=DEBUG", `\\x1b[31mEOF`)
	to.Print("http2: panic serving 10.0.0.1:1: on purpose")
	wantContains(t, log.String(), "level=ERROR", "on purpose")
}

func TestServeMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		listener, log, done := newPipes(), new(standintest.Log), make(chan struct{})
		go func() {
			defer close(done)
			ServeMetrics(ctx, listener, hello, logTo(log))
		}()
		for target, want := range map[string]int{
			"GET /metrics": 200, "HEAD /metrics": 200, "GET /metrics?name=x": 200,
			"POST /metrics": 405, "OPTIONS /metrics": 405, "DELETE /metrics": 405,
			"GET /": 404, "GET /metrics/": 404, "GET //metrics": 404, "GET /x/../metrics": 404,
			"GET /%6detrics": 404, "GET /debug/pprof/": 404, "POST /": 404, "OPTIONS *": 404,
		} {
			if got := ask(listener.mustDial(t), target+" HTTP/1.1\r\nHost: x\r\n\r\n").status; got != want {
				t.Errorf("%s: got %d, want %d", target, got, want)
			}
		}
		silent, begun := listener.mustDial(t), time.Now()
		if n, _ := io.Copy(io.Discard, silent); n != 0 || time.Since(begun) != 10*time.Second {
			t.Errorf("a silent connection ended after %v, want 10s", time.Since(begun))
		}
		stop()
		<-done
		if log.String() != "" {
			t.Errorf("logged %q, want nothing", log)
		}
		ServeMetrics(t.Context(), listener, hello, logTo(log)) // the listener is closed
		wantContains(t, log.String(), "level=ERROR", "metrics")
	})
}
