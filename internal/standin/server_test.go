package standin

import (
	"crypto/x509"
	"encoding/json"
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
	if err := s.Start(); !errors.Is(err, errStarted) {
		t.Errorf("a second Start = %v, want %v", err, errStarted)
	}
	wantHonest(t, s, inProcess(s)) // by the new names
	wantHonest(t, s, overSockets(t, s))
}

func TestDiscovery(t *testing.T) {
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		for _, test := range []struct{ base, field, want string }{
			{s.Tenant.Issuer(), "issuer", s.Tenant.Issuer()},
			{s.Tenant.Issuer(), "jwks_uri", s.Tenant.Issuer() + ".well-known/jwks.json"},
			{s.IMS.URL() + "/", "issuer", s.IMS.URL()},
			{s.IMS.URL() + "/", "token_endpoint", s.IMS.URL() + "/connect/token"},
		} {
			req, err := http.NewRequestWithContext(t.Context(), "GET", test.base+".well-known/openid-configuration", nil)
			if err != nil {
				t.Fatal(err)
			}
			var fields Claims
			if got := do(client, req); json.Unmarshal([]byte(got.body), &fields) != nil || fields[test.field] != test.want {
				t.Errorf("%s of %s: got %+v, want %s", test.field, test.base, got, test.want)
			}
		}
		if n := s.Tenant.Requests() + s.IMS.Requests(); n != 0 {
			t.Errorf("discovery was counted %d times", n)
		}
	})
}

func TestCertificateIsOnlyGoodWithTheCA(t *testing.T) {
	s := StartForTest(t)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.CACert()) || !pool.Equal(s.Pool()) {
		t.Error("CACert and Pool differ")
	}
	stranger := ForTest(t)
	var unknown x509.UnknownAuthorityError
	if got := fetchKeys(t.Context(), overSockets(t, stranger), s); !errors.As(got.err, &unknown) {
		t.Errorf("with another CA: %v, want %T", got.err, unknown)
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
			if _, err := accessToken(askGrant(t.Context(), client, s)); err != nil {
				t.Errorf("the IMS went down with the tenant: %v", err)
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

func TestStopCutsRequestsUnderWay(t *testing.T) {
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		arrived := make(chan struct{}, 2)
		tell := func(fault Fault) Fault {
			return func(honest http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					arrived <- struct{}{}
					fault(honest).ServeHTTP(w, r)
				})
			}
		}
		for name, fault := range map[string]Fault{"hanging": Hang(), "dripping": Drip(time.Hour)} {
			s.IMS.Misbehave(tell(fault))
			done := make(chan seen, 1)
			go func() { done <- askGrant(t.Context(), client, s) }()
			<-arrived
			s.IMS.Stop()
			if got := <-done; got.err == nil {
				t.Errorf("%s: got %+v, want an error", name, got)
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
			askGrant(t.Context(), client, s)
		}
		if most := s.IMS.MostAtOnce(); most != 1 {
			t.Errorf("one after the other: %d at once, want 1", most)
		}
		// Nobody is answered before all have arrived.
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
				if _, err := accessToken(askGrant(t.Context(), client, s)); err != nil {
					t.Error(err)
				}
			})
		}
		clients.Wait()
		if n, most := s.IMS.Requests(), s.IMS.MostAtOnce(); n != 10+callers || most != callers {
			t.Errorf("counted %d, %d at once, want %d and %d", n, most, 10+callers, callers)
		}
	})
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	s := StartForTest(t)
	s.Tenant.Misbehave(Hang())
	s.IMS.Misbehave(Drip(time.Hour))
	var clients sync.WaitGroup
	client := overSockets(t, s)
	for range 5 {
		clients.Go(func() {
			if got := fetchKeys(t.Context(), client, s); got.err == nil {
				t.Errorf("got %+v from a server that closed", got)
			}
		})
		clients.Go(func() {
			if got := askGrant(t.Context(), client, s); got.err == nil {
				t.Errorf("got %+v from a server that closed", got)
			}
		})
	}
	idle, err := net.Dial("tcp", s.Tenant.Domain()) // asks for nothing
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
	eventuallyGone(t, "net/http.(*conn).serve", "net/http.(*connReader)", "net/http.(*Server).Serve", "standin.(*Server).listen")
}

func TestTransportRefusesWhatItCannotReach(t *testing.T) {
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

// A Standin made, restarted and used in one bubble is as good in the next, and outside.
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
