package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// takes answers after d, even if the request is canceled.
func takes(d time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(d)
		hello(w, r)
	}
}

// All times are relative to the moment of the stop.
func TestShutdown(t *testing.T) {
	const ms, closed = time.Millisecond, drainDelay + firstInterval
	waits := func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	for _, test := range []struct {
		name            string
		handler         http.HandlerFunc
		dialed, sent    time.Duration
		want            int // status; 0: none
		answered, ended time.Duration
	}{
		{"an idle connection", hello, -1000 * ms, -500 * ms, 200, -500 * ms, closed},
		{"in flight", takes(5500 * ms), -1000 * ms, -500 * ms, 200, 5000 * ms, 5000 * ms},
		{"a probe that finds it not ready", hello, drainDelay - ms, drainDelay - ms, 200, drainDelay - ms, closed},
		{"the last connection, its request later", hello, drainDelay - ms, 3900 * ms, 200, 3900 * ms, 3900 * ms},
		{"its request too late", hello, drainDelay - ms, 4100 * ms, 0, 4100 * ms, 4100 * ms},
		{"too late", hello, drainDelay + ms, drainDelay + ms, 0, drainDelay + ms, closed},
		{"waits for its context", waits, -1000 * ms, -500 * ms, 503, 8000 * ms, 8000 * ms},
		{"ignores its context", takes(time.Minute), -1000 * ms, -500 * ms, 0, 9000 * ms, 9000 * ms},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, test.handler)
				stop := time.Now().Add(time.Second)
				time.AfterFunc(time.Second, r.stop)
				time.Sleep(time.Until(stop.Add(test.dialed)))
				conn, err := r.dial()
				time.Sleep(time.Until(stop.Add(test.sent)))
				var got answer
				if err == nil {
					got = ask(conn, request)
				}
				if took := time.Since(stop); got.status != test.want || took != test.answered {
					t.Errorf("got %d after %v, want %d after %v", got.status, took, test.want, test.answered)
				}
				// Shutdown looks every half second at most whether connections have ended.
				err, took := <-r.ended, time.Since(stop)
				if err != nil || took < test.ended || took > test.ended+600*ms || took > 10*time.Second {
					t.Errorf("Run returned %v after %v, want nil after %v", err, took, test.ended)
				}
				if warned := strings.Contains(r.log.String(), "still busy"); !r.stopped.Equal(stop) || warned != (test.ended == 9000*ms) {
					t.Errorf("Stopping called after %v, log:\n%s", r.stopped.Sub(stop), r.log)
				}
				time.Sleep(time.Minute) // the handler must end in the bubble
			})
		})
	}
}

// Clients that keep their connections busy leave between two requests, before
// net/http closes connections.
func TestBusyClientsLoseNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, takes(10*time.Millisecond))
		time.AfterFunc(time.Second, r.stop)
		var clients sync.WaitGroup
		for range 20 {
			clients.Go(func() {
				for conn, err := r.dial(); err == nil; conn, err = r.dial() {
					for last := false; !last; {
						got := ask(conn, request)
						if last = got.last; got.status != 200 {
							t.Errorf("got %d, want 200", got.status)
							return
						}
					}
					conn.Close()
				}
			})
		}
		clients.Wait()
		if took := time.Since(r.stopped); took >= drainDelay+firstInterval {
			t.Errorf("the last client left after %v, want before %v", took, drainDelay+firstInterval)
		}
	})
}

func TestSlowHeaderCannotDelayTheShutdown(t *testing.T) {
	for _, first := range []string{"", request} { // first or second request of its connection
		synctest.Test(t, func(t *testing.T) {
			r := start(t, hello)
			conn := r.mustDial(t)
			go io.Copy(io.Discard, conn)
			io.WriteString(conn, first+"GET / HTTP/1.1\r\n")
			go func() {
				for err := error(nil); err == nil; _, err = io.WriteString(conn, "X-A: b\r\n") {
					time.Sleep(500 * time.Millisecond)
				}
			}()
			synctest.Wait()
			r.stop()
			begun := time.Now()
			if err := <-r.ended; err != nil || time.Since(begun) > 10*time.Second {
				t.Errorf("after %q: Run returned %v after %v, want nil within 10s", first, err, time.Since(begun))
			}
			time.Sleep(time.Second) // the sender must end in the bubble
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
