package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// cutAfter is how long it takes until the server closes a connection on which
// send does what a slow client does, a step a second.
func cutAfter(t *testing.T, handler http.Handler, first string, step string) time.Duration {
	t.Helper()
	conn := start(t, handler).mustDial(t)
	begun := time.Now()
	go io.Copy(io.Discard, conn)
	if _, err := io.WriteString(conn, first); err != nil {
		t.Fatal(err)
	}
	for time.Since(begun) < time.Hour {
		time.Sleep(time.Second)
		if _, err := io.WriteString(conn, step); err != nil {
			return time.Since(begun)
		}
	}
	t.Fatal("served for an hour")
	return 0
}

func TestSlowSendersAreCut(t *testing.T) {
	for _, test := range []struct {
		name, first, step string
		want              time.Duration
	}{
		{"a header that never ends", "GET / HTTP/1.1\r\nHost: x\r\n", "X-A: b\r\n", 10 * time.Second},
		{"a request line, a byte a second", "GET /", "a", 10 * time.Second},
		{"a body, a byte a second", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", "a", 30 * time.Second},
		{"chunks, one a second", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n", 30 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// A handler that reads the body is the worst case.
				handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
				got := cutAfter(t, handler, test.first, test.step)
				if got > test.want+time.Second || got < test.want { // +1 s: when the client next tries
					t.Errorf("cut after %v, want %v", got, test.want)
				}
			})
		})
	}
}

func TestSilentConnectionsAreCut(t *testing.T) {
	for _, test := range []struct {
		name, request string
		want          time.Duration
	}{
		{"not a byte", "", 10 * time.Second},
		{"idle after an answer", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 2 * time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := start(t, hello).mustDial(t)
				begun := time.Now()
				if _, err := io.WriteString(conn, test.request); err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, conn) // until it is closed
				if got := time.Since(begun); got != test.want {
					t.Errorf("closed after %v, want %v", got, test.want)
				}
			})
		})
	}
}

func TestClientThatDoesNotReadIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrote := make(chan error, 1)
		conn := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, err := io.WriteString(w, strings.Repeat("x", 1<<20))
			wrote <- err
		})).mustDial(t)
		begun := time.Now()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if err := <-wrote; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) != 30*time.Second {
			t.Errorf("the handler's write ended with %v after %v, want a timeout after 30s", err, time.Since(begun))
		}
	})
}

func TestHeaderSize(t *testing.T) {
	for _, test := range []struct {
		size int // of the header, in bytes
		want string
	}{
		{63 << 10, "200 OK hello"},
		{65 << 10, "431 Request Header Fields Too Large 431 Request Header Fields Too Large"},
		{1 << 20, "431 Request Header Fields Too Large 431 Request Header Fields Too Large"},
	} {
		synctest.Test(t, func(t *testing.T) {
			conn := start(t, hello).mustDial(t)
			go io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-A: "+strings.Repeat("a", test.size)+"\r\n\r\n")
			if got, err := answer(conn); got != test.want {
				t.Errorf("%d bytes of header: got %q (%v), want %q", test.size, got, err, test.want)
			}
		})
	}
}

func TestNetHTTPSaysItInTheLog(t *testing.T) {
	long := strings.Repeat("stack ", 200)
	for _, test := range []struct{ name, line, want string }{
		{"callers' doing", "http: TLS handshake error from 10.0.0.1:1: \x1b[31mEOF", `level=DEBUG msg=net/http said="\"http: TLS handshake error from 10.0.0.1:1: \\x1b[31mEOF\\n\""`},
		{"a panic", "http: panic serving 10.0.0.1:1: boom\n\ngoroutine 1:\n" + long, `level=ERROR msg=net/http said="\"http: panic serving 10.0.0.1:1: boom\\n\\ngoroutine 1:\\n` + long + `\\n\""`},
	} {
		b := new(logBuffer)
		newServer(t.Context(), hello, b.logger()).ErrorLog.Print(test.line)
		got := b.String()
		wantContains(t, got, test.want)
		if strings.Count(got, "\n") != 1 {
			t.Errorf("%s: %d lines, want 1: %q", test.name, strings.Count(got, "\n"), got)
		}
	}
}

func TestPanicIsLoggedAndHurtsNobodyElse(t *testing.T) {
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
		r := running{pipes: newPipes(), log: new(logBuffer)}
		done := make(chan struct{})
		go func() { defer close(done); ServeMetrics(ctx, r.pipes, hello, r.log.logger()) }()
		if got, err := get(r.client(), "http://x/"); got != "200 OK hello" {
			t.Errorf("got %q (%v), want 200 OK hello", got, err)
		}
		slow := r.mustDial(t)
		begun := time.Now()
		if line, err := bufio.NewReader(slow).ReadString('\n'); err != io.EOF || time.Since(begun) != 10*time.Second {
			t.Errorf("a silent connection read %q (%v) after %v, want io.EOF after 10s", line, err, time.Since(begun))
		}
		stop()
		<-done
		if got := r.log.String(); got != "" {
			t.Errorf("logged %q at an orderly end, want nothing", got)
		}
	})
}

func TestAsideSaysThatItHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := running{pipes: newPipes(), log: new(logBuffer)}
		r.pipes.Close()
		ServeMetrics(t.Context(), r.pipes, hello, r.log.logger())
		wantContains(t, r.log.String(), "level=ERROR", "the metrics are not served any more")
	})
}
