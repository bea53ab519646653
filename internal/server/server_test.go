package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

// wantEnd waits until Run returns nil, at the earliest after d.
func (s *testServer) wantEnd(t *testing.T, d time.Duration) {
	t.Helper()
	err, took := <-s.result, time.Since(s.stopped)
	latest := d + 600*time.Millisecond // Shutdown looks for open connections twice a second
	if err != nil || took < d || took > latest {
		t.Errorf("Run returned %v after %v, want nil after %v to %v", err, took, d, latest)
	}
}

// after answers after d, even if the request is canceled.
func after(d time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(d)
		w.WriteHeader(http.StatusOK)
		hello(w, r)
	}
}

// empty writes nothing, after one second.
func empty(http.ResponseWriter, *http.Request) { time.Sleep(time.Second) }

// untilCanceled answers when the request is canceled.
func untilCanceled(w http.ResponseWriter, r *http.Request) {
	<-r.Context().Done()
	w.WriteHeader(http.StatusServiceUnavailable)
}

// All times are in seconds from the signal. The port closes at 1, connections without a
// request are closed at 2, requests are canceled at 8, and all connections closed at 9.
func TestShutdown(t *testing.T) {
	for _, test := range []struct {
		name             string
		handler          http.HandlerFunc
		connect, request float64
		status           int // 0: no response
		last             bool
		response, end    float64
	}{
		{"idle", hello, -1, -0.5, 200, false, -0.5, 2},
		{"a probe", hello, 0.5, 0.9, 200, false, 0.9, 2},
		{"answered while the port is open", after(time.Second), -1, -0.5, 200, false, 0.5, 2},
		{"answered when it is closed", after(time.Second), -1, 0.5, 200, true, 1.5, 2},
		{"an empty answer when it is closed", empty, -1, 0.5, 200, true, 1.5, 2},
		{"answered later", after(5 * time.Second), -1, -0.5, 200, true, 4.5, 4.5},
		{"a request when the port is closed", hello, 0.9, 1.9, 200, true, 1.9, 2},
		{"a request too late", hello, 0.9, 2.5, 0, false, 2.5, 2.5},
		{"a connection too late", hello, 1.1, 1.1, 0, false, 1.1, 2},
		{"waits until it is canceled", untilCanceled, -1, -0.5, 503, true, 8, 8},
		{"waits too long", after(time.Minute), -1, -0.5, 0, false, 9, 9},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := startServer(t, test.handler, nil)
			signal := time.Now().Add(2 * time.Second)
			time.AfterFunc(2*time.Second, s.stop)
			sleepUntil := func(seconds float64) {
				time.Sleep(time.Until(signal) + time.Duration(seconds*float64(time.Second)))
			}
			sleepUntil(test.connect)
			conn := s.dial(t)
			sleepUntil(test.request)
			got := send(conn, request)
			wantStatus(t, test.name, got, test.status)
			if at := time.Since(signal).Seconds(); got.last != test.last || at != test.response {
				t.Errorf("%s: answered at %v, the last on its connection: %v; want at %v, %v",
					test.name, at, got.last, test.response, test.last)
			}
			s.wantEnd(t, time.Duration(test.end*float64(time.Second)))
			if !s.stopped.Equal(signal) {
				t.Errorf("%s: Stopping was called after %v, want 0s", test.name, s.stopped.Sub(signal))
			}
			if warned := strings.Contains(s.log.String(), "still busy"); warned != (test.end == 9) {
				t.Errorf("%s: the log is %q", test.name, s.log)
			}
			time.Sleep(time.Minute) // the handler must end in the bubble
		})
	}
}

// Clients that keep their connections busy leave between two requests, once the port is
// closed and before net/http closes connections.
func TestBusyClientsLoseNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t, after(10*time.Millisecond), nil)
		time.AfterFunc(time.Second, s.stop)
		var clients sync.WaitGroup
		for range 20 {
			clients.Go(func() {
				conn, got := s.dial(t), response{status: 200}
				for got.status == 200 && !got.last {
					got = send(conn, request)
				}
				wantStatus(t, "a busy client", got, 200)
				if took := time.Since(s.stopped); took < drainDelay || took > drainDelay+closeDelay {
					t.Errorf("a busy client's last answer came after %v, want 1s to 2s", took)
				}
			})
		}
		clients.Wait()
	})
}

func TestListenerThatFailsEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t, hello, nil)
		s.pipeListener.Close()
		if err := <-s.result; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Run returned %v, want %v", err, net.ErrClosed)
		}
	})
}

// A failed Accept is a warning, a panic an error, and what clients cause is for debugging:
// one line each, of bounded length. Others are served afterwards.
func TestErrorLog(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/", hello)
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) {
		panic("on purpose \u202e" + strings.Repeat("long ", 1000))
	})
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t, mux, newPair(t, 1).load(t, t.TempDir()))
		s.conns <- nil
		wantStatus(t, "no TLS", send(s.dial(t), "\x1b[31m is not TLS"), 0)
		conn := tls.Client(s.dial(t), insecure)
		wantStatus(t, "a panic", send(conn, "GET /panic HTTP/1.1\r\nHost: x\r\n\r\n"), 0)
		wantStatus(t, "afterwards", send(tls.Client(s.dial(t), insecure), request), 200)
		lines := slices.Collect(strings.Lines(s.log.String()))
		want := []struct{ level, text string }{
			{"level=WARN", "too many open files"},
			{"level=DEBUG", "TLS handshake error"},
			{"level=ERROR", `on purpose \\u202e`},
		}
		if len(lines) != len(want) {
			t.Fatalf("the log is %q, want %d lines", lines, len(want))
		}
		for i, w := range want {
			if !strings.Contains(lines[i], w.level) || !strings.Contains(lines[i], w.text) {
				t.Errorf("got the line %q, want %s and %s", lines[i], w.level, w.text)
			}
			if len(lines[i]) > 4<<10+200 {
				t.Errorf("got a line of %d bytes, want about 4 KiB at most", len(lines[i]))
			}
		}
	})
}

func TestServeMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		listener, log := newPipeListener(), new(standintest.Log)
		var running sync.WaitGroup
		running.Go(func() { ServeMetrics(ctx, listener, hello, newLog(log)) })
		for target, want := range map[string]int{
			"GET /metrics": 200, "HEAD /metrics": 200, "GET /metrics?name=x": 200,
			"POST /metrics": 405, "OPTIONS /metrics": 405, "GET /": 404, "GET /metrics/": 404,
			"GET //metrics": 404, "GET /%6detrics": 404, "GET /debug/pprof/": 404, "OPTIONS *": 404,
		} {
			got := send(listener.dial(t), target+" HTTP/1.1\r\nHost: x\r\n\r\n")
			wantStatus(t, target, got, want)
		}
		stop()
		running.Wait()
		if log.String() != "" {
			t.Errorf("the log is %q, want nothing", log)
		}
		ServeMetrics(t.Context(), listener, hello, newLog(log)) // the listener is closed
		if !strings.Contains(log.String(), "level=ERROR") {
			t.Errorf("the log is %q, want an error", log)
		}
	})
}
