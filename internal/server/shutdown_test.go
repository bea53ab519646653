package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/standin"
)

const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// A result is what became of a request, and when.
type result struct {
	answer string
	err    error
	at     time.Time
}

// ask makes a request with a client of its own, and returns when the server has
// it in hand.
func ask(r *running) <-chan result {
	done := make(chan result, 1)
	go func() {
		answer, err := get(r.client(), "http://x/")
		done <- result{answer, err, time.Now()}
	}()
	synctest.Wait()
	return done
}

// takes answers after d, even if the request is canceled.
func takes(d time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(d)
		io.WriteString(w, "done")
	}
}

func wantEnd(t *testing.T, r *running, start time.Time, want time.Duration) {
	t.Helper()
	err := <-r.ended
	got := time.Since(start)
	// Shutdown looks every half second at most whether connections have ended.
	if err != nil || got < want || got > want+600*time.Millisecond || got > 10*time.Second {
		t.Errorf("Run returned %v after %v, want nil after %v", err, got, want)
	}
}

func TestRequestsInFlightAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, takes(5*time.Second))
		inFlight := ask(r)
		r.stop()
		start := time.Now()
		if got := <-inFlight; got.answer != "200 OK done" {
			t.Errorf("got %q (%v), want 200 OK done", got.answer, got.err)
		}
		wantEnd(t, r, start, 5*time.Second)
	})
}

func TestProbesStillReachAServerThatIsShuttingDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, hello)
		r.stop()
		start := time.Now()
		<-r.stopped
		if time.Since(start) != 0 {
			t.Errorf("Stopping was called after %v, want at once", time.Since(start))
		}
		time.Sleep(drainDelay - time.Millisecond)
		if got, err := get(r.client(), "http://x/"); got != "200 OK hello" {
			t.Errorf("during the delay: got %q (%v), want 200 OK hello", got, err)
		}
		time.Sleep(2 * time.Millisecond)
		if conn, err := r.dial(); err == nil {
			conn.Close()
			t.Error("connected after the listener should have been closed")
		}
		wantEnd(t, r, start, drainDelay+acceptDelay)
	})
}

// A connection accepted in the last moment gets its answer, although its request
// comes after the listener is closed.
func TestLastConnectionIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, hello)
		r.stop()
		start := time.Now()
		time.Sleep(drainDelay - time.Millisecond)
		conn := r.mustDial(t)
		time.Sleep(acceptDelay)
		io.WriteString(conn, request)
		if got, err := answer(conn); got != "200 OK hello" {
			t.Errorf("got %q (%v), want 200 OK hello", got, err)
		}
		wantEnd(t, r, start, drainDelay+acceptDelay)
	})
}

func TestIdleConnectionsDoNotDelayTheShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, hello)
		conn := r.mustDial(t)
		io.WriteString(conn, request)
		if got, err := answer(conn); got != "200 OK hello" {
			t.Fatalf("got %q (%v), want 200 OK hello", got, err)
		}
		r.stop()
		wantEnd(t, r, time.Now(), drainDelay+acceptDelay)
	})
}

func TestRequestsThatStillWaitAreCanceledAndAnswered(t *testing.T) {
	const want = drainDelay + acceptDelay + shutdownTimeout
	synctest.Test(t, func(t *testing.T) {
		r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			w.WriteHeader(http.StatusServiceUnavailable)
		}))
		waiting := ask(r)
		r.stop()
		start := time.Now()
		got := <-waiting
		if got.answer != "503 Service Unavailable " || got.at.Sub(start) != want {
			t.Errorf("got %q (%v) after %v, want 503 after %v", got.answer, got.err, got.at.Sub(start), want)
		}
		wantEnd(t, r, start, want)
	})
}

func TestHandlerThatIgnoresItsContextCannotDelayTheShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, takes(time.Minute))
		waiting := ask(r)
		r.stop()
		start := time.Now()
		wantEnd(t, r, start, drainDelay+acceptDelay+shutdownTimeout+closeTimeout)
		if got := <-waiting; got.err == nil || got.at.Sub(start) > 10*time.Second {
			t.Errorf("got %q after %v, want a broken connection within 10s", got.answer, got.at.Sub(start))
		}
		wantContains(t, r.log.String(), "level=WARN", "still busy")
		time.Sleep(time.Minute) // the handler must end in the bubble
	})
}

func TestSlowHeaderCannotDelayTheShutdown(t *testing.T) {
	for _, first := range []string{"", request} { // first or second request of its connection
		synctest.Test(t, func(t *testing.T) {
			r := start(t, hello)
			conn := r.mustDial(t)
			go io.Copy(io.Discard, conn)
			io.WriteString(conn, first)
			synctest.Wait()
			io.WriteString(conn, "GET / HTTP/1.1\r\n")
			var slow sync.WaitGroup
			slow.Go(func() {
				for err := error(nil); err == nil; _, err = io.WriteString(conn, "X-A: b\r\n") {
					time.Sleep(500 * time.Millisecond)
				}
			})
			synctest.Wait()
			r.stop()
			start := time.Now()
			if err := <-r.ended; err != nil || time.Since(start) > 10*time.Second {
				t.Errorf("after %q: Run returned %v after %v, want nil within 10s", first, err, time.Since(start))
			}
			slow.Wait()
		})
	}
}

func TestListenerThatFailsEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, hello)
		r.pipes.Close()
		if err := <-r.ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Run returned %v, want %v", err, net.ErrClosed)
		}
	})
}

// A recorder is a listener that knows the clients it has accepted.
type recorder struct {
	net.Listener
	accepted sync.Map // addresses
}

func (r *recorder) Accept() (net.Conn, error) {
	conn, err := r.Listener.Accept()
	if err == nil {
		r.accepted.Store(conn.RemoteAddr().String(), true)
	}
	return conn, err
}

// hammer sends one request after the other until it cannot connect any more, and
// counts the answers and the requests that got none on an accepted connection.
func hammer(listener *recorder, answers, lost *atomic.Int64) {
	for {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			return
		}
		for open := true; open; {
			io.WriteString(conn, request)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if _, accepted := listener.accepted.Load(conn.LocalAddr().String()); err != nil && accepted {
				lost.Add(1)
			}
			if got, err := text(resp, err); got == "200 OK hello" && err == nil {
				answers.Add(1)
			}
			open = err == nil && !resp.Close
		}
		listener.accepted.Delete(conn.LocalAddr().String()) // its port may be used again
		conn.Close()
	}
}

// Busy clients over sockets: no request on a connection that was accepted is lost.
func TestShutdownLosesNoRequest(t *testing.T) {
	tcp, err := Listen("127.0.0.1", "0")
	must(t, err)
	listener := &recorder{Listener: tcp}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Server{Listener: listener, Handler: hello, Log: logTo(new(standin.Log)), Stopping: func() {}})
	}()
	var answers, lost atomic.Int64
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() { hammer(listener, &answers, &lost) })
	}
	for answers.Load() < 1000 {
		time.Sleep(time.Millisecond)
	}
	stop()
	clients.Wait()
	if err := <-ended; err != nil || lost.Load() > 0 {
		t.Errorf("Run returned %v, %d requests lost of %d, want none", err, lost.Load(), answers.Load())
	}
}

func TestLargeAnswerInFlightIsSentWhole(t *testing.T) {
	tcp, err := Listen("127.0.0.1", "0")
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		stop()
		<-ctx.Done()
		io.WriteString(w, strings.Repeat("x", 1<<20))
	})
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Server{Listener: tcp, Handler: handler, Log: logTo(new(standin.Log)), Stopping: func() {}})
	}()
	if got, err := get(http.DefaultClient, "http://"+tcp.Addr().String()); len(got) != len("200 OK ")+1<<20 {
		t.Errorf("got %d bytes (%v), want the whole answer", len(got), err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run returned %v, want nil", err)
	}
}

// A request that began before the shutdown and is answered during it ends its
// connection too.
func TestAnAnswerDuringTheShutdownEndsItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			time.Sleep(drainDelay / 2)
			hello(w, req)
		}))
		time.AfterFunc(drainDelay/4, r.stop)
		if resp := exchange(t, r.mustDial(t), request); !resp.Close {
			t.Errorf("got %v with its connection kept, want it closed", resp.Status)
		}
	})
}
