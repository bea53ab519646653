package standin

import (
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestNames(t *testing.T) {
	s := ForTest(t)
	if got := s.Tenant.Domain() + " " + s.Tenant.Issuer() + " " + s.IMS.URL(); got !=
		"tenant.auth0.test https://tenant.auth0.test/ https://ims.bentley.test" {
		t.Errorf("before Start: %s", got)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(s.Tenant.Domain())
	if err != nil || host != "127.0.0.1" || port == "0" {
		t.Errorf("after Start: the domain is %q, %v", s.Tenant.Domain(), err)
	}
	if !strings.HasPrefix(s.IMS.URL(), "https://127.0.0.1:") || strings.HasSuffix(s.IMS.URL(), port) {
		t.Errorf("after Start: the URL is %q", s.IMS.URL())
	}
	if s.Start() == nil {
		t.Error("a second Start = nil, want an error")
	}
	wantHonest(t, s, inProcess(s)) // by the new names
	wantHonest(t, s, overSockets(t, s))
}

func TestCertificateIsTrustedByPoolOnly(t *testing.T) {
	s := StartForTest(t)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.CACert()) || !pool.Equal(s.Pool()) {
		t.Error("CACert and Pool differ")
	}
	other := ForTest(t)
	var unknown x509.UnknownAuthorityError
	if got := fetchKeys(t.Context(), overSockets(t, other), s); !errors.As(got.err, &unknown) {
		t.Errorf("with another pool: %v, want %T", got.err, unknown)
	}
}

func TestStopAndRestart(t *testing.T) {
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		wantHonest(t, s, client)
		for range 3 {
			s.Tenant.Stop()
			s.Tenant.Stop()
			got := fetchKeys(t.Context(), client, s)
			var op *net.OpError
			if !errors.Is(got.err, syscall.ECONNREFUSED) || !errors.As(got.err, &op) {
				t.Errorf("stopped: got %+v, want %v in a %T", got, syscall.ECONNREFUSED, op)
			}
			if got := requestGrant(t.Context(), client, s); !s.IMS.Valid(got.token()) {
				t.Errorf("the IMS stopped with the tenant: %+v", got)
			}
			before := s.Tenant.Requests()
			if err := s.Tenant.Restart(); err != nil {
				t.Fatal(err)
			}
			wantHonest(t, s, client)
			if n := s.Tenant.Requests() - before; n != 1 {
				t.Errorf("counted %d requests after Restart, want 1", n)
			}
		}
		if err := s.Tenant.Restart(); err != nil {
			t.Errorf("Restart while running = %v", err)
		}
	})
}

func TestStopClosesOpenConnections(t *testing.T) {
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		for want, fault := range map[error]Fault{io.EOF: Hang(), io.ErrUnexpectedEOF: Drip(time.Hour)} {
			arrived := make(chan struct{})
			s.IMS.Misbehave(func(honest http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					close(arrived)
					fault(honest).ServeHTTP(w, r)
				})
			})
			done := make(chan answer, 1)
			go func() { done <- requestGrant(t.Context(), client, s) }()
			<-arrived
			s.IMS.Stop()
			// Stop may come before the first byte of the answer that drips.
			if got := <-done; !errors.Is(got.err, want) && !errors.Is(got.err, io.EOF) {
				t.Errorf("got %+v, want %v", got, want)
			}
			if err := s.IMS.Restart(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestCountsAreExact(t *testing.T) {
	const callers = 20
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		for range 10 {
			requestGrant(t.Context(), client, s)
		}
		if most := s.IMS.MostAtOnce(); most != 1 {
			t.Errorf("one after the other: %d at once, want 1", most)
		}
		// No request is answered before all have arrived.
		var all sync.WaitGroup
		all.Add(callers)
		s.IMS.Misbehave(func(honest http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				all.Done()
				all.Wait()
				honest.ServeHTTP(w, r)
			})
		})
		var clients sync.WaitGroup
		for range callers {
			clients.Go(func() {
				if got := requestGrant(t.Context(), client, s); !s.IMS.Valid(got.token()) {
					t.Errorf("got %+v, want a token", got)
				}
			})
		}
		clients.Wait()
		if n, most := s.IMS.Requests(), s.IMS.MostAtOnce(); n != 10+callers || most != callers {
			t.Errorf("counted %d, %d at once, want %d and %d", n, most, 10+callers, callers)
		}
	})
}

func TestCloseEndsAllGoroutines(t *testing.T) {
	s := StartForTest(t)
	s.Tenant.Misbehave(Hang())
	s.IMS.Misbehave(Drip(time.Hour))
	var clients sync.WaitGroup
	client := overSockets(t, s)
	for range 5 {
		clients.Go(func() {
			if got := fetchKeys(t.Context(), client, s); got.err == nil {
				t.Errorf("got %+v from a closed server", got)
			}
		})
		clients.Go(func() {
			if got := requestGrant(t.Context(), client, s); got.err == nil {
				t.Errorf("got %+v from a closed server", got)
			}
		})
	}
	idle, err := net.Dial("tcp", s.Tenant.Domain()) // sends no request
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	for s.Tenant.Requests() < 5 || s.IMS.Requests() < 5 {
		time.Sleep(time.Millisecond)
	}
	s.Close()
	s.Close()
	clients.Wait()
	wantEnded(t, "net/http.(*conn).serve", "net/http.(*connReader)", "net/http.(*Server).Serve", "standin.(*Server).listen")
}

func TestTransportOfOtherHosts(t *testing.T) {
	s := ForTest(t)
	for _, url := range []string{"https://ims.bentley.com/", "https://", "http://ims.bentley.test/", "ftp:x"} {
		req, err := http.NewRequest("POST", url, io.NopCloser(strings.NewReader("x")))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Transport().RoundTrip(req); err == nil {
			t.Errorf("%s was reached", url)
		}
	}
	var unknown *net.DNSError
	if _, err := inProcess(s).Get("https://ims.bentley.com/"); !errors.As(err, &unknown) || !unknown.IsNotFound {
		t.Errorf("another host: %v, want no such host", err)
	}
	resp, err := inProcess(s).Head(s.Tenant.Issuer() + ".well-known/jwks.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); len(body) > 0 || err != nil || resp.StatusCode != 200 {
		t.Errorf("HEAD: %d %q, %v, want no body", resp.StatusCode, body, err)
	}
}

// A Standin that was restarted and used in a bubble works in the next, and outside.
func TestBubblesShareAStandin(t *testing.T) {
	s := ForTest(t)
	for range 2 {
		synctest.Test(t, func(t *testing.T) {
			s.IMS.Misbehave(Delay(time.Hour))
			s.Tenant.Stop()
			if err := s.Tenant.Restart(); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			wantHonest(t, s, inProcess(s))
			if took := time.Since(start); took != time.Hour {
				t.Errorf("took %v, want 1h", took)
			}
			s.Tenant.Stop()
		})
	}
	s.IMS.Behave()
	if err := s.Tenant.Restart(); err != nil {
		t.Fatal(err)
	}
	wantHonest(t, s, inProcess(s))
}
