package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A call is a request under way, and then its answer.
type call struct {
	answer string
	err    error
	at     time.Time
}

// under has a request made by a client of its own, and returns when the server
// has it in hand.
func under(r *running, path string) <-chan call {
	done := make(chan call, 1)
	go func() {
		answer, err := get(r.client(), "http://x"+path)
		done <- call{answer, err, time.Now()}
	}()
	synctest.Wait()
	return done
}

// takes answers after d, whatever happens meanwhile.
func takes(d time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(d)
		io.WriteString(w, "done")
	}
}

// waits answers when its request's context ends.
func waits(w http.ResponseWriter, r *http.Request) {
	<-r.Context().Done()
	w.WriteHeader(http.StatusServiceUnavailable)
	io.WriteString(w, "interrupted")
}

func wantEnd(t *testing.T, r *running, begun time.Time, want time.Duration) {
	t.Helper()
	err := <-r.ended
	// net/http looks every half second at most whether connections are gone.
	if got := time.Since(begun); err != nil || got < want || got > want+600*time.Millisecond {
		t.Errorf("Run returned %v after %v, want nil after %v", err, got, want)
	}
	if got := time.Since(begun); got > 10*time.Second {
		t.Errorf("the shutdown took %v, want at most 10s", got)
	}
}

func TestRequestsInFlightAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, takes(5*time.Second))
		inFlight := under(r, "/")
		r.stop()
		begun := time.Now()
		if got := <-inFlight; got.answer != "200 OK done" {
			t.Errorf("got %q (%v), want 200 OK done", got.answer, got.err)
		}
		wantEnd(t, r, begun, 5*time.Second)
	})
}

func TestProbesStillReachAServerThatIsShuttingDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, hello)
		r.stop()
		begun := time.Now()
		<-r.stopped
		if time.Since(begun) != 0 {
			t.Errorf("told after %v, want at once", time.Since(begun))
		}
		time.Sleep(drainDelay - time.Millisecond)
		if got, err := get(r.client(), "http://x/"); got != "200 OK hello" {
			t.Errorf("while it drainDelays: got %q (%v), want 200 OK hello", got, err)
		}
		time.Sleep(2 * time.Millisecond)
		if conn, err := r.dial(); err == nil {
			conn.Close()
			t.Error("connected after the listener should have been closed")
		}
		wantEnd(t, r, begun, drainDelay)
	})
}

func TestIdleConnectionsDoNotDelayTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, hello)
		conn := r.mustDial(t)
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if got, err := answer(conn); got != "200 OK hello" {
			t.Fatalf("got %q (%v), want 200 OK hello", got, err)
		}
		r.stop()
		wantEnd(t, r, time.Now(), drainDelay)
	})
}

func TestWhoStillWaitsIsToldInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, http.HandlerFunc(waits))
		waiting := under(r, "/")
		r.stop()
		begun := time.Now()
		got := <-waiting
		if got.answer != "503 Service Unavailable interrupted" || got.at.Sub(begun) != drainDelay+shutdownTimeout {
			t.Errorf("got %q (%v) after %v, want 503 after %v", got.answer, got.err, got.at.Sub(begun), drainDelay+shutdownTimeout)
		}
		wantEnd(t, r, begun, drainDelay+shutdownTimeout)
	})
}

func TestNobodyCanHoldUpTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, takes(time.Minute)) // deaf to its context
		deaf := under(r, "/")
		r.stop()
		begun := time.Now()
		wantEnd(t, r, begun, drainDelay+shutdownTimeout+closeTimeout)
		if got := <-deaf; got.err == nil || got.at.Sub(begun) > 10*time.Second {
			t.Errorf("got %q after %v, want a broken connection within 10s", got.answer, got.at.Sub(begun))
		}
		wantContains(t, r.log.String(), "level=WARN", "still busy")
		time.Sleep(time.Minute) // the handler's, which must end in the bubble
	})
}

func TestAHeaderThatTricklesCannotHoldUpTheEnd(t *testing.T) {
	for _, test := range []struct{ name, first string }{
		{"first of its connection", ""},
		{"second of its connection", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, hello)
				conn := r.mustDial(t)
				go io.Copy(io.Discard, conn)
				io.WriteString(conn, test.first)
				synctest.Wait()
				io.WriteString(conn, "GET / HTTP/1.1\r\n")
				trickled := make(chan struct{})
				go func() {
					defer close(trickled)
					for err := error(nil); err == nil; _, err = io.WriteString(conn, "X-A: b\r\n") {
						time.Sleep(500 * time.Millisecond)
					}
				}()
				synctest.Wait()
				r.stop()
				begun := time.Now()
				if err := <-r.ended; err != nil || time.Since(begun) > 10*time.Second {
					t.Errorf("Run returned %v after %v, want nil within 10s", err, time.Since(begun))
				}
				<-trickled
			})
		})
	}
}

func TestAListenerThatFailsEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, hello)
		r.pipes.Close()
		if err := <-r.ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Run returned %v, want %v", err, net.ErrClosed)
		}
	})
}

func TestShutdownOverSockets(t *testing.T) {
	listener, err := Listen("127.0.0.1", "0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	inside, release := make(chan struct{}), make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(inside)
		<-release
		io.WriteString(w, strings.Repeat("x", 1<<20))
	})
	stopping, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Server{Listener: listener, Handler: handler, Log: new(logBuffer).logger(), Stopping: func() { close(stopping) }})
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	base := "http://" + listener.Addr().String()
	slow := make(chan call, 1)
	go func() {
		answer, err := get(client, base)
		slow <- call{answer: answer, err: err}
	}()
	<-inside
	stop()
	<-stopping
	close(release)
	if got := <-slow; len(got.answer) != len("200 OK ")+1<<20 {
		t.Errorf("in flight: got %d bytes (%v), want the whole answer", len(got.answer), got.err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run returned %v, want nil", err)
	}
	if _, err := get(client, base); err == nil {
		t.Error("answered after the end")
	}
}

// A busy client keeps its connection until the shutdown begins, and is then told
// with an answer that it ends: nothing it sends is cut.
func TestAShutdownEndsConnectionsBetweenRequests(t *testing.T) {
	var stopping atomic.Bool
	server := httptest.NewServer(closeWhen(&stopping, takes(0)))
	defer server.Close()
	for _, stop := range []bool{false, true} {
		stopping.Store(stop)
		resp, err := server.Client().Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.Close != stop {
			t.Errorf("stopping %v: the answer ends its connection: %v", stop, resp.Close)
		}
	}
}
