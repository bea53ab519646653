package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/standin"
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
				start := time.Now()
				go func() {
					for _, err := io.WriteString(conn, test.first); err == nil && test.step != ""; _, err = io.WriteString(conn, test.step) {
						time.Sleep(time.Second)
					}
				}()
				io.Copy(io.Discard, conn) // until it is closed
				if got := time.Since(start); got != test.want {
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
		start := time.Now()
		io.WriteString(conn, request)
		if err := <-wrote; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 30*time.Second {
			t.Errorf("the handler's write ended with %v after %v, want a timeout after 30s", err, time.Since(start))
		}
	})
}

func TestHeaderSize(t *testing.T) {
	for _, test := range []struct {
		bytes int
		want  string
	}{
		{31 << 10, "200 OK hello"},
		{33 << 10, "431 Request Header Fields Too Large 431 Request Header Fields Too Large"},
		{1 << 20, "431 Request Header Fields Too Large 431 Request Header Fields Too Large"},
	} {
		synctest.Test(t, func(t *testing.T) {
			conn := start(t, hello).mustDial(t)
			go io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-A: "+strings.Repeat("a", test.bytes)+"\r\n\r\n")
			if got, err := answer(conn); got != test.want {
				t.Errorf("%d bytes of header: got %q (%v), want %q", test.bytes, got, err, test.want)
			}
		})
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, hello)
		idle := r.mustDial(t)
		exchange(t, idle, request)
		for range 2499 {
			r.mustDial(t)
		}
		waiting := make(chan string, 1)
		go func() {
			got, _ := get(r.client(), "http://x/")
			waiting <- got
		}()
		synctest.Wait()
		if len(waiting) > 0 {
			t.Errorf("2500 connections are open, and another got %q, want it to wait", <-waiting)
		}
		idle.Close()
		if got := <-waiting; got != "200 OK hello" {
			t.Errorf("a connection has ended, and another got %q, want 200 OK hello", got)
		}
		r.mustDial(t) // full again: a shutdown does not wait for a free slot
		r.stop()
		if err := <-r.ended; err != nil {
			t.Errorf("Run returned %v, want nil", err)
		}
	})
}

func TestErrorLogOfNetHTTP(t *testing.T) {
	stack := strings.Repeat("stack ", 200)
	for _, test := range []struct{ name, line, want string }{
		{"caused by clients", "http: TLS handshake error from 10.0.0.1:1: \x1b[31mEOF", `level=DEBUG msg=net/http message="\"http: TLS handshake error from 10.0.0.1:1: \\x1b[31mEOF\\n\""`},
		{"a panic", "http: panic serving 10.0.0.1:1: boom\n\ngoroutine 1:\n" + stack, `level=ERROR msg=net/http message="\"http: panic serving 10.0.0.1:1: boom\\n\\ngoroutine 1:\\n` + stack + `\\n\""`},
		{"a long panic", "http: panic serving " + strings.Repeat(stack, 10), "level=ERROR"},
	} {
		log := new(standin.Log)
		newServer(t.Context(), hello, logTo(log)).ErrorLog.Print(test.line)
		got := log.String()
		wantContains(t, got, test.want)
		if strings.Count(got, "\n") != 1 || len(got) > maxPanicBytes+200 {
			t.Errorf("%s: %d lines, %d bytes; want 1, about 4 KiB", test.name, strings.Count(got, "\n"), len(got))
		}
	}
}

func TestPanicIsLoggedAndOthersAreServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/panic" {
				panic("on purpose")
			}
			hello(w, req)
		}))
		if got, err := get(r.client(), "http://x/panic"); err == nil {
			t.Errorf("got %q, want a broken connection", got)
		}
		if got, err := get(r.client(), "http://x/"); got != "200 OK hello" {
			t.Errorf("got %q (%v), want 200 OK hello", got, err)
		}
		wantContains(t, r.log.String(), "level=ERROR", "on purpose", "bounds_test.go")
	})
}

func TestServeMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		listener, log, done := newPipes(), new(standin.Log), make(chan struct{})
		go func() {
			defer close(done)
			ServeMetrics(ctx, listener, hello, logTo(log))
		}()
		for _, test := range []struct {
			method, path string
			want         int
		}{
			{"GET", "/metrics", 200}, {"HEAD", "/metrics", 200}, {"GET", "/metrics?name=x", 200},
			{"POST", "/metrics", 405}, {"OPTIONS", "/metrics", 405}, {"DELETE", "/metrics", 405},
			{"GET", "/", 404}, {"GET", "/metrics/", 404}, {"GET", "//metrics", 404}, {"GET", "/x/../metrics", 404},
			{"GET", "/%6detrics", 404}, {"GET", "/debug/pprof/", 404}, {"POST", "/", 404}, {"OPTIONS", "*", 404},
		} {
			resp := exchange(t, listener.mustDial(t), test.method+" "+test.path+" HTTP/1.1\r\nHost: x\r\n\r\n")
			if resp.StatusCode != test.want {
				t.Errorf("%s %s: got %v, want %v", test.method, test.path, resp.StatusCode, test.want)
			}
		}
		silent, start := listener.mustDial(t), time.Now()
		if n, _ := io.Copy(io.Discard, silent); n != 0 || time.Since(start) != 10*time.Second {
			t.Errorf("a silent connection ended after %v, want 10s", time.Since(start))
		}
		stop()
		<-done
		if got := log.String(); got != "" {
			t.Errorf("logged %q, want nothing", got)
		}
	})
}

func TestServeMetricsLogsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener, log := newPipes(), new(standin.Log)
		listener.Close()
		ServeMetrics(t.Context(), listener, hello, logTo(log))
		wantContains(t, log.String(), "level=ERROR", "metrics")
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
		usual := "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + strings.Repeat("a", 3<<10) + "\r\n\r\n"
		if resp := exchange(t, r.mustDial(t), usual); resp.StatusCode != 200 {
			t.Errorf("a usual request: got %v, want 200", resp.Status)
		}
		time.Sleep(headerTimeout)
		for range 10 {
			if resp := exchange(t, r.mustDial(t), long+"\r\n\r\n"); resp.StatusCode != 200 {
				t.Errorf("afterwards: got %v, want 200", resp.Status)
			}
		}
	})
}
