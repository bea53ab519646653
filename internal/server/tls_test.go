package server

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTLSVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, hello, valid(t, 1).load(t, t.TempDir()))
		for version, want := range map[uint16]bool{
			tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true,
		} {
			conn := tls.Client(r.mustDial(t), &tls.Config{MinVersion: version, MaxVersion: version, InsecureSkipVerify: true})
			if err := conn.Handshake(); (err == nil) != want {
				t.Errorf("%s: error %v, want success: %v", tls.VersionName(version), err, want)
			}
		}
	})
}

// One connection serves all requests, also those with a body, which is not read.
func TestHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, hello, valid(t, 1).load(t, t.TempDir()))
		dialed := 0
		transport := &http.Transport{
			DialContext:     func(context.Context, string, string) (net.Conn, error) { dialed++; return r.dial() },
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true,
		}
		defer transport.CloseIdleConnections()
		for _, body := range []string{"", "x", strings.Repeat("x", 1<<20), ""} {
			req, err := http.NewRequestWithContext(t.Context(), "POST", "https://x", strings.NewReader(body))
			must(t, err)
			resp, err := transport.RoundTrip(req)
			must(t, err)
			if got, err := io.ReadAll(resp.Body); string(got) != "hello" || resp.Proto != "HTTP/2.0" {
				t.Errorf("%d bytes of body: got %s %q (%v), want HTTP/2.0 hello", len(body), resp.Proto, got, err)
			}
		}
		if dialed != 1 {
			t.Errorf("%d connections, want 1", dialed)
		}
	})
}

// A client that sends half a frame, announces a large one, or does not read.
func TestHTTP2ClientsAreCutOff(t *testing.T) {
	ping := frame(6, 0, 0, make([]byte, 8))
	for _, test := range []struct {
		name  string
		sent  []byte
		reads bool
		want  time.Duration
	}{
		{"half a frame", ping[:12], true, headerTimeout + pingTimeout},
		{"a frame of 1 MiB", []byte{0x10, 0, 0, 0xff, 0, 0, 0, 0, 0}, true, time.Second},
		{"does not read", ping, false, requestTimeout + 5*time.Second}, // crypto/tls waits 5 s to say that it closes
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, hello, valid(t, 1).load(t, t.TempDir()))
				conn := tls.Client(r.mustDial(t), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
				must(t, conn.Handshake())
				begun := time.Now()
				go io.WriteString(conn, preface+string(frame(4, 0, 0, nil))+string(test.sent))
				if test.reads {
					io.Copy(io.Discard, conn) // until it is closed
				} else {
					for err := error(nil); err == nil; _, err = conn.Write(ping) {
						time.Sleep(time.Second)
					}
				}
				if took := time.Since(begun); took > test.want+2*time.Second {
					t.Errorf("closed after %v, want %v", took, test.want)
				}
			})
		})
	}
}

// A request over the bound is reset; one that panics is no longer in progress.
func TestHTTP2RequestsAreLimited(t *testing.T) {
	l := limit(nil, "")
	for range maxRequests - 1 {
		l.requests <- struct{}{}
	}
	serve := func(next http.HandlerFunc) (panicked any) {
		defer func() { panicked = recover() }()
		l.serveHTTP2(httptest.NewRecorder(), new(http.Request), next)
		return nil
	}
	for range 2 {
		if got := serve(func(http.ResponseWriter, *http.Request) { panic("on purpose") }); got != "on purpose" {
			t.Errorf("a request within the bound ends with %v, want the handler's panic", got)
		}
	}
	serve(func(http.ResponseWriter, *http.Request) {
		if got := serve(hello); got != http.ErrAbortHandler {
			t.Errorf("a request over the bound ends with %v, want %v", got, http.ErrAbortHandler)
		}
	})
	if got := serve(hello); got != nil {
		t.Errorf("afterwards a request ends with %v", got)
	}
}

// What a connection may have open and unread, as the server tells its client.
func TestHTTP2Bounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, hello, valid(t, 1).load(t, t.TempDir()))
		conn := tls.Client(r.mustDial(t), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		go conn.Write(append([]byte(preface), frame(4, 0, 0, nil)...))
		head := make([]byte, 9) // of a frame (RFC 9113 §4.1)
		_, err := io.ReadFull(conn, head)
		must(t, err)
		settings := make([]byte, head[2])
		_, err = io.ReadFull(conn, settings)
		must(t, err)
		got := map[uint16]uint32{}
		for pair := range slices.Chunk(settings, 6) {
			got[binary.BigEndian.Uint16(pair)] = binary.BigEndian.Uint32(pair[2:])
		}
		if head[3] != 4 || got[3] != 32 || got[4] > 64<<10 {
			t.Errorf("frame %d, settings %v; want 32 streams (3), of 64 KiB at most (4)", head[3], got)
		}
	})
}
