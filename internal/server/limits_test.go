package server

import (
	"crypto/tls"
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

func TestSlowClientsAreCutOff(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: x\r\n"
	for _, test := range []struct {
		name, first, next string // next is sent each second
		want              time.Duration
	}{
		{"a header without an end", request[:len(request)-2], "X-A: b\r\n", 10 * time.Second},
		{"a request line without an end", "GET /", "a", 10 * time.Second},
		{"a body", post + "Content-Length: 100000\r\n\r\n", "a", 30 * time.Second},
		{"chunks", post + "Transfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n", 30 * time.Second},
		{"nothing", "", "", 10 * time.Second},
		{"nothing after an answer", request, "", 2 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			readBody := func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }
			conn := startServer(t, http.HandlerFunc(readBody), nil).dial(t)
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
		result := make(chan error, 1)
		writeMuch := func(w http.ResponseWriter, _ *http.Request) {
			_, err := io.WriteString(w, strings.Repeat("x", 1<<20))
			result <- err
		}
		conn := startServer(t, http.HandlerFunc(writeMuch), nil).dial(t)
		begin := time.Now()
		io.WriteString(conn, request)
		err, took := <-result, time.Since(begin)
		if !errors.Is(err, os.ErrDeadlineExceeded) || took != 30*time.Second {
			t.Errorf("the answer ended with %v after %v, want a timeout after 30s", err, took)
		}
	})
}

// A token of 8 KiB fits, with 3 KiB of what browsers and proxies add.
func TestHeaderSize(t *testing.T) {
	token := strings.Repeat("a", 8<<10)
	begin := "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\nX-A: "
	for size, want := range map[int]int{12 << 10: 200, 12<<10 + 1: 431, 1 << 20: 431} {
		synctest.Test(t, func(t *testing.T) {
			rest := strings.Repeat("a", size-len(begin)-len("\r\n\r\n")) + "\r\n\r\n"
			got := send(startServer(t, hello, nil).dial(t), begin+rest)
			if got.status != want {
				t.Errorf("a header of %d bytes: status %d, want %d", size, got.status, want)
			}
		})
	}
}

// When most connections are taken, an answer ends its connection; when all are, a
// further one waits.
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
		first := open(1)
		open(898)
		if got := send(first, request); got.status != 200 || got.last {
			t.Errorf("899 are open: got %+v, want 200, not the last on its connection", got)
		}
		open(1)
		if got := send(first, request); got.status != 200 || !got.last {
			t.Errorf("900 are open: got %+v, want 200, the last on its connection", got)
		}
		last := open(101)
		waiting := make(chan response, 1)
		go func() { waiting <- send(s.dial(t), request) }()
		synctest.Wait()
		if len(waiting) > 0 {
			t.Error("1,000 are open, and another one was answered, want it to wait")
		}
		last.Close()
		wantStatus(t, "after one has closed", <-waiting, 200)
	})
}

// Whatever ends a connection gives its slot back.
func TestSlotsAreGivenBack(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/", hello)
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("on purpose") })
	const get, host = "GET / HTTP/1.1\r\n", "Host: x\r\n"
	for _, test := range []struct {
		name           string
		server, client bool // speak TLS
		sent           string
	}{
		{"silence", false, false, ""},
		{"a request", false, false, request},
		{"half a request", false, false, get},
		{"a long header", false, false, get + strings.Repeat("x", 1<<16)},
		{"a body that does not come", false, false, get + host + "Content-Length: 9\r\n\r\n"},
		{"a panic", false, false, "GET /panic HTTP/1.1\r\n" + host + "\r\n"},
		{"no handshake", true, false, ""},
		{"plain http", true, false, request},
		{"half a handshake", true, false, "\x16\x03\x01\x00\xff\x01"},
		{"a request over TLS", true, true, request},
		{"half a request over TLS", true, true, get},
		{"a panic over TLS", true, true, "GET /panic HTTP/1.1\r\n" + host + "\r\n"},
	} {
		for _, hangUp := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				pipes := newPipeListener()
				limited := limit(pipes)
				listener := net.Listener(limited)
				if test.server {
					listener = tls.NewListener(limited, newPair(t, 1).load(t, t.TempDir()).config())
				}
				server := newServer(t.Context(), limited, mux, newLog(new(standintest.Log)))
				go server.Serve(listener)
				defer server.Close()
				conn := pipes.dial(t)
				client := net.Conn(conn)
				if test.client {
					client = tls.Client(conn, insecure)
				}
				go io.WriteString(client, test.sent)
				synctest.Wait()
				if hangUp {
					conn.Close()
				}
				io.Copy(io.Discard, conn) // until it is closed
				time.Sleep(time.Minute)   // the client must end in the bubble

				// The next connection to be accepted has a slot.
				if taken := len(limited.slots); taken != 1 {
					t.Errorf("%s, then hanging up %v: %d slots are taken, want 1", test.name, hangUp, taken)
				}
			})
		}
	}
}

// An Accept that fails takes no slot, and one that waits for a slot ends with Close.
func TestAcceptOfAClosedListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limited := limit(newPipeListener())
		limited.Close()
		for range maxConnections {
			if _, err := limited.Accept(); err == nil {
				t.Fatal("Accept of a closed listener gives no error")
			}
		}
		if len(limited.slots) > 0 {
			t.Errorf("%d slots are taken, want 0", len(limited.slots))
		}
		for range maxConnections {
			limited.slots <- struct{}{}
		}
		if _, err := limited.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("without a free slot: Accept returns %v, want %v", err, net.ErrClosed)
		}
	})
}
