package server

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

// after answers with a header only, after d, even if the request is canceled.
func after(d time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { time.Sleep(d); w.WriteHeader(200) }
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
	kept, last, none := response{200, false}, response{200, true}, response{}
	for _, test := range []struct {
		name             string
		handler          http.HandlerFunc
		connect, request float64
		want             response
		response, end    float64 // end: Run returns
	}{
		{"a probe while the port is open", hello, 0.5, 0.9, kept, 0.9, 2},
		{"answered while the port is open", after(time.Second), -1, -0.5, kept, 0.5, 2},
		{"answered when it is closed", after(time.Second), -1, 0.5, last, 1.5, 2},
		{"an empty answer when it is closed", empty, -1, 0.5, last, 1.5, 2},
		{"a request when it is closed", hello, 0.9, 1.9, last, 1.9, 2},
		{"a connection when it is closed", hello, 1.1, 1.1, none, 1.1, 2},
		{"waits until it is canceled", untilCanceled, -1, -0.5, response{503, true}, 8, 8},
		{"waits too long", after(time.Minute), -1, -0.5, none, 9, 9},
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
			wantResponse(t, test.name, conn, request, test.want)
			if at := time.Since(signal).Seconds(); at != test.response {
				t.Errorf("%s: responded at %v, want %v", test.name, at, test.response)
			}
			err, end := <-s.result, time.Since(signal).Seconds()
			late := end - test.end // Shutdown looks for open connections twice a second
			if err != nil || late < 0 || late > 0.6 || !s.stopped.Equal(signal) {
				t.Errorf("%s: Stopping was called at %v, and Run returned %v at %v, want 0, nil, %v",
					test.name, s.stopped.Sub(signal), err, end, test.end)
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
				took := time.Since(s.stopped)
				if got.status != 200 || took < drainDelay || took > drainDelay+closeDelay {
					t.Errorf("a busy client's last response: %+v after %v, want 200 after 1s to 2s", got, took)
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
// one line each. Others are served afterwards.
func TestErrorLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t, panicAtPost, newCertificate(t))
		s.conns <- nil
		wantResponse(t, "no TLS", s.dial(t), "\x1b[31m is not TLS", response{})
		wantResponse(t, "a panic", tls.Client(s.dial(t), insecure), post+"\r\n", response{})
		wantResponse(t, "afterwards", tls.Client(s.dial(t), insecure), request, response{200, false})
		want := regexp.MustCompile(`^.* level=WARN .* message="http: Accept error: [^"\\]*too many open files[^"\\]*"
.* level=DEBUG .*TLS handshake error.*
.* level=ERROR .*on purpose \\\\u202e.*
$`)
		if log := s.log.String(); !want.MatchString(log) {
			t.Errorf("the log is %q, want lines that match %s", log, want)
		}
	})
}

func TestServeMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		listener, log := newPipeListener(), new(standintest.Log)
		logger := slog.New(slog.NewTextHandler(log, nil))
		var running sync.WaitGroup
		running.Go(func() { ServeMetrics(ctx, listener, hello, logger) })
		for target, want := range map[string]int{
			"GET /metrics": 200, "GET /metrics?name=x": 200, "GET /": 404, "GET /metrics/": 404,
			"GET //metrics": 404, "GET /%6detrics": 404, "OPTIONS *": 404,
			"HEAD /metrics": 200, "POST /metrics": 404,
		} {
			conn := listener.dial(t)
			wantResponse(t, target, conn, target+" HTTP/1.1\r\nHost: x\r\n\r\n", response{want, false})
		}
		stop()
		running.Wait()
		stopped := log.String()
		ServeMetrics(t.Context(), listener, hello, logger) // the listener is closed
		if stopped != "" || !strings.Contains(log.String(), "level=ERROR") {
			t.Errorf("the log is %q, want one error, of the second call", log)
		}
	})
}
