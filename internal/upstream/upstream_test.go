package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/standin"
)

const mebi = 1 << 20

const (
	cutShort  = "want a whole answer, got one that was cut short"
	tooLong   = "want an answer of at most 1 MiB, got a longer one"
	redirect  = "want an answer, got a redirect (status 307), which is not followed"
	broken    = "want an answer, got a broken connection: check the network, and the proxy"
	refused   = "want an answer, got connection refused: check the host and the port"
	late      = "want an answer within 10s, got none in time: check the network, and the proxy"
	noName    = "want a host, got no address for its name: check the spelling, and DNS"
	authority = "want a certificate signed by a known authority, got one signed by another: if that is meant, set SSL_CERT_FILE"
	otherName = "want a certificate for this name, got one for another: check the spelling, and what answers there"
	invalid   = "want a valid certificate, got one that is expired or not for this use: check this machine's clock too"
	noTLS     = "want TLS, got another protocol: check the host and the port"
	noProxy   = "want a way to it by the proxy, got none: check HTTPS_PROXY, and the proxy"
)

// faulty is what a stand-in may do, and what becomes of it.
var faulty = []struct {
	name  string
	fault standin.Fault
	kind  Kind
	text  string
}{
	{"truncated", standin.Truncated(), Nonsense, cutShort},
	{"32 MiB", standin.Huge(32 << 20), Nonsense, tooLong},
	{"one byte over the bound", standin.Answer(200, "text/plain", strings.Repeat("x", mebi+1)), Nonsense, tooLong},
	{"redirect on the same host", standin.Redirect("/elsewhere"), Nonsense, redirect},
	{"redirect to another host", standin.Redirect("https://" + standin.Canary + "/"), Nonsense, redirect},
	{"redirect without a target", standin.Answer(302, "", ""), Nonsense, strings.Replace(redirect, "307", "302", 1)},
	{"not modified", standin.Status(304), Nonsense, strings.Replace(redirect, "307", "304", 1)},
	{"hang-up", standin.HangUp(), Unreachable, broken},
}

func TestFaultsOverSockets(t *testing.T) {
	s := started(t)
	for _, test := range faulty {
		s.Tenant.Misbehave(test.fault)
		before := s.Tenant.Requests()
		_, body, err := ask(t.Context(), Transport(s.Pool()), s.Tenant.Domain())
		wantError(t, err, test.kind, s.Tenant.Domain(), test.text)
		if body != "" {
			t.Errorf("%s: %d bytes beside the error, want none", test.name, len(body))
		}
		if asked := s.Tenant.Requests() - before; asked != 1 {
			t.Errorf("%s: asked %d times, want once", test.name, asked)
		}
	}
	s.Tenant.Stop()
	_, _, err := ask(t.Context(), Transport(s.Pool()), s.Tenant.Domain())
	wantError(t, err, Unreachable, s.Tenant.Domain(), refused)
}

func TestFaultsInProcess(t *testing.T) {
	s := newStandin(t)
	for _, test := range faulty {
		synctest.Test(t, func(t *testing.T) {
			s.Tenant.Misbehave(test.fault)
			_, _, err := ask(t.Context(), s.Transport(), s.Tenant.Domain())
			wantError(t, err, test.kind, s.Tenant.Domain(), test.text)
		})
	}
	_, _, err := ask(t.Context(), s.Transport(), "nowhere.test")
	wantError(t, err, Unreachable, "nowhere.test", noName)
}

// Any other answer is the caller's to judge.
func TestAnswers(t *testing.T) {
	s := started(t)
	whole := strings.Repeat("x", mebi)
	for _, test := range []struct {
		name   string
		fault  standin.Fault
		status int
		body   string
	}{
		{"honest", nil, 200, string(s.Tenant.JWKS())},
		{"empty", standin.Answer(200, "", ""), 200, ""},
		{"as long as may be", standin.Answer(200, "text/plain", whole), 200, whole},
		{"no content", standin.Answer(204, "", ""), 204, ""},
		{"refusal", standin.Answer(403, "text/plain", "no"), 403, "no"},
		{"trouble", standin.Answer(503, "text/plain", "later"), 503, "later"},
		{"said to be zipped", func(honest http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				io.WriteString(w, "asked for: "+r.Header.Get("Accept-Encoding"))
			})
		}, 200, "asked for: "},
	} {
		s.Tenant.Misbehave(test.fault)
		status, body, err := ask(t.Context(), Transport(s.Pool()), s.Tenant.Domain())
		if status != test.status || body != test.body || err != nil {
			t.Errorf("%s: got %d and %d bytes (%v), want %d and %d", test.name, status, len(body), err, test.status, len(test.body))
		}
	}
}

func TestSlowAnswersEndAfterTenSeconds(t *testing.T) {
	s := newStandin(t)
	for _, test := range []struct {
		name  string
		fault standin.Fault
	}{
		{"hang", standin.Hang()},
		{"a late answer", standin.Delay(10*time.Second + time.Millisecond)},
		{"a byte a second", standin.Drip(time.Second)},
	} {
		synctest.Test(t, func(t *testing.T) {
			s.Tenant.Misbehave(test.fault)
			begun := time.Now()
			_, _, err := ask(t.Context(), s.Transport(), s.Tenant.Domain())
			wantError(t, err, Slow, s.Tenant.Domain(), late)
			if took := time.Since(begun); took != 10*time.Second {
				t.Errorf("%s: took %v, want 10s", test.name, took)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		s.Tenant.Misbehave(standin.Delay(10*time.Second - time.Millisecond))
		if _, _, err := ask(t.Context(), s.Transport(), s.Tenant.Domain()); err != nil {
			t.Errorf("an answer in time: got the error %v, want none", err)
		}
	})
}

func TestTheCallersContextEndsIt(t *testing.T) {
	s := newStandin(t)
	for name, fault := range map[string]standin.Fault{"before the answer": standin.Hang(), "within it": standin.Drip(time.Second)} {
		synctest.Test(t, func(t *testing.T) {
			s.Tenant.Misbehave(fault)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(3*time.Second, cancel)
			begun := time.Now()
			_, _, err := ask(ctx, s.Transport(), s.Tenant.Domain())
			if err != context.Canceled || time.Since(begun) != 3*time.Second {
				t.Errorf("%s: got %v after %v, want %v after 3s", name, err, time.Since(begun), context.Canceled)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // a deadline is upstream's slowness, whoever set it
		s.Tenant.Misbehave(standin.Hang())
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, _, err := ask(ctx, s.Transport(), s.Tenant.Domain())
		wantError(t, err, Slow, s.Tenant.Domain(), late)
	})
}

func TestHugeHeader(t *testing.T) {
	s := started(t)
	s.Tenant.Misbehave(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-A", strings.Repeat("a", 128<<10))
		})
	})
	_, _, err := ask(t.Context(), Transport(s.Pool()), s.Tenant.Domain())
	wantError(t, err, Unreachable, s.Tenant.Domain(), broken)
}

// failing is a transport of which only an error comes.
type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

// What a test cannot have happen: by the errors that net/http then gives.
func TestErrorsOfTheNetwork(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		kind Kind
		text string
	}{
		{"no authorities on the machine", &tls.CertificateVerificationError{Err: x509.SystemRootsError{Err: os.ErrNotExist}}, Unreachable, "want this machine's list of certificate authorities, got none: install ca-certificates, or set SSL_CERT_FILE"},
		{"a handshake that takes too long", &net.OpError{Op: "remote error", Err: os.ErrDeadlineExceeded}, Slow, late},
		{"a connection that takes too long", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ETIMEDOUT)}, Slow, late},
		{"a name server that does not answer", &net.OpError{Op: "dial", Err: &net.DNSError{IsTimeout: true}}, Unreachable, noName},
		{"no route", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, Unreachable, broken},
		{"reset", &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, Unreachable, broken},
		{"anything, quoting upstream", errors.New("malformed: " + standin.Canary), Unreachable, broken},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := ask(t.Context(), failing{test.err}, "tenant.auth0.test")
			wantError(t, err, test.kind, "tenant.auth0.test", test.text)
		})
	}
}

func TestErrorf(t *testing.T) {
	err := Errorf(Refused, "%s: want %d, got less", "a.test", 7)
	wantError(t, err, Refused, "a.test", "want 7, got less")
}

// A flood is an endless answer that knows how much of it was read.
type flood struct{ read int }

func (f *flood) Read(p []byte) (int, error) { f.read += len(p); return len(p), nil }
func (f *flood) Close() error               { return nil }

func (f *flood) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: f}, nil
}

func TestNoMoreIsReadThanIsKept(t *testing.T) {
	req, err := http.NewRequest(http.MethodGet, "https://upstream.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	f := new(flood)
	if _, _, err := Do(f, req); err == nil {
		t.Error("an endless answer is taken")
	}
	if f.read > maxBody+1 {
		t.Errorf("%d bytes are read, want at most %d", f.read, maxBody+1)
	}
}
