package server

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSlowClientsAreCutOff(t *testing.T) {
	for _, test := range []struct {
		name, first, next string // next is sent each second
		want              time.Duration
	}{
		{"nothing", "", "", 10 * time.Second},
		{"a header without an end", "GET / HTTP/1.1\r\n", "X-A: b\r\n", 10 * time.Second},
		{"a body", post + "Content-Length: 100000\r\n\r\n", "a", 31 * time.Second}, // 30 s, and bodyTimeout
		{"nothing after an answer", request, "", 2 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			readBody := func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }
			conn := startServer(t, readBody, nil).dial(t)
			begin := time.Now()
			go func() {
				_, err := io.WriteString(conn, test.first)
				for ; err == nil && test.next != ""; _, err = io.WriteString(conn, test.next) {
					time.Sleep(time.Second)
				}
			}()
			io.Copy(io.Discard, conn) // until it is closed
			if got := time.Since(begin); got != test.want {
				t.Errorf("%s: closed after %v, want %v", test.name, got, test.want)
			}
			time.Sleep(time.Second) // the sender must end in the bubble
		})
	}
}

func TestClientThatDoesNotReadIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, strings.Repeat("x", 1<<20))
		}, nil).dial(t)
		io.WriteString(conn, request)
		time.Sleep(requestTimeout + time.Second)
		if n, _ := io.Copy(io.Discard, conn); n >= 1<<20 {
			t.Errorf("got %d bytes, want a connection that was closed after 30s", n)
		}
	})
}

// A token of 8 KiB fits, with 3 KiB of what browsers and proxies add.
func TestHeaderSize(t *testing.T) {
	token := strings.Repeat("a", 8<<10)
	begin := "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\nX-A: "
	for size, want := range map[int]response{12 << 10: {200, false}, 12<<10 + 1: {431, true}} {
		synctest.Test(t, func(t *testing.T) {
			rest := strings.Repeat("a", size-len(begin)-len("\r\n\r\n")) + "\r\n\r\n"
			wantResponse(t, "a long header", startServer(t, hello, nil).dial(t), begin+rest, want)
		})
	}
}

// A body is not read, so its connection ends: nothing in it may be taken for the next
// request.
func TestBodyEndsTheConnection(t *testing.T) {
	const chunked = "Transfer-Encoding: chunked\r\n\r\n"
	for name, sent := range map[string]string{
		"a length":           post + "Content-Length: 40\r\n\r\n" + request,
		"a body without end": post + "Content-Length: 9\r\n\r\n",
		"chunks":             post + chunked + "0\r\n\r\n" + request,
		"chunks in HTTP/1.0": "GET / HTTP/1.0\r\nConnection: keep-alive\r\n" + chunked + request,
	} {
		synctest.Test(t, func(t *testing.T) {
			conn, begin := startServer(t, hello, nil).dial(t), time.Now()
			go io.WriteString(conn, sent)
			all, _ := io.ReadAll(conn)
			answers, took := strings.Count(string(all), "HTTP/1."), time.Since(begin)
			if answers != 1 || took > 2*time.Second {
				t.Errorf("%s: %d answers in %v, want 1 in 2s at most:\n%s", name, answers, took, all)
			}
		})
	}
}

// When most connections are taken, an answer ends its connection; when all are, a further
// one waits, and the server can still shut down.
func TestConnectionsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t, hello, nil)
		open := func(n int) (last net.Conn) {
			for range n {
				last = s.dial(t)
			}
			synctest.Wait() // the server waits for the next one, which has a slot, too
			return last
		}
		s.conns <- nil // an Accept that fails takes no slot
		first := open(1)
		open(898)
		wantResponse(t, "899 are open", first, request, response{200, false})
		open(1)
		wantResponse(t, "900 are open", first, request, response{200, true})
		last := open(101)
		select {
		case s.conns <- nil:
			t.Error("1,000 are open, and the server accepts another one")
		default:
		}
		last.Close()
		wantResponse(t, "after one has closed", s.dial(t), request, response{200, true})
		open(1)
		s.stop()
		if err := <-s.result; err != nil || time.Since(s.stopped) > closeTimeout {
			t.Errorf("Run returned %v after %v, want nil after 9s at most", err, time.Since(s.stopped))
		}
	})
}

// Whatever ends a connection gives its slot back.
func TestSlotsAreGivenBack(t *testing.T) {
	for _, test := range []struct {
		name      string
		handshake bool
		sent      string
	}{
		{"silence", false, ""},
		{"plain http", false, request},
		{"half a request", true, "GET / HTTP/1.1\r\n"},
		{"a request", true, request},
		{"a panic", true, post + "\r\n"},
	} {
		synctest.Test(t, func(t *testing.T) {
			pipes, log := newPipeListener(), slog.New(slog.DiscardHandler)
			limited, certificate := limit(pipes), newCertificate(t)
			server := newServer(t.Context(), limited, http.HandlerFunc(panicAtPost), log)
			go server.Serve(tls.NewListener(limited, certificate.config()))
			defer server.Close()
			for _, hangUp := range []bool{false, true} {
				conn := pipes.dial(t)
				client := net.Conn(conn)
				if test.handshake {
					client = tls.Client(conn, insecure)
				}
				go io.WriteString(client, test.sent)
				synctest.Wait()
				if hangUp {
					conn.Close()
				}
				io.Copy(io.Discard, conn) // until it is closed
			}
			synctest.Wait()
			if taken := len(limited.slots); taken != 1 {
				t.Errorf("%s: %d slots are taken, want 1, for the next connection", test.name, taken)
			}
		})
	}
}
