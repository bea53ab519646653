package standin

import (
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestNamesAndCertificate(t *testing.T) {
	s := ForTest(t)
	if got := s.Tenant.Domain() + " " + s.Tenant.Issuer() + " " + s.IMS.URL(); got !=
		"tenant.auth0.test https://tenant.auth0.test/ https://ims.bentley.test" {
		t.Errorf("before Start: %s", got)
	}
	if first, second := s.Start(), s.Start(); first != nil || second == nil {
		t.Errorf("Start = %v, then %v; want an error only the second time", first, second)
	}
	if names := s.Tenant.Domain() + " " + s.IMS.URL(); !regexp.MustCompile(`^127\.0\.0\.1:\d+ https://127\.0\.0\.1:\d+$`).MatchString(names) {
		t.Errorf("after Start: %s", names)
	}
	wantHonest(t, s, inProcess(s)) // by the new names
	wantHonest(t, s, overSockets(t, s))
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.CACert()) || !pool.Equal(s.Pool()) {
		t.Error("CACert and Pool differ")
	}
	var unknown x509.UnknownAuthorityError
	if got := fetchKeys(t.Context(), overSockets(t, ForTest(t)), s); !errors.As(got.err, &unknown) {
		t.Errorf("with another pool: %v, want %T", got.err, unknown)
	}
}

func TestStopAndRestart(t *testing.T) {
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		for n := range 3 {
			wantHonest(t, s, client)
			s.Tenant.Stop()
			s.Tenant.Stop()
			var op *net.OpError
			if got := fetchKeys(t.Context(), client, s); !errors.Is(got.err, syscall.ECONNREFUSED) || !errors.As(got.err, &op) {
				t.Errorf("stopped: got %+v, want %v in a %T", got, syscall.ECONNREFUSED, op)
			}
			if got := requestGrant(t.Context(), client, s); !s.IMS.Valid(got.token()) {
				t.Errorf("the IMS stopped with the tenant: %+v", got)
			}
			if first, second := s.Tenant.Restart(), s.Tenant.Restart(); first != nil || second != nil {
				t.Fatalf("Restart = %v, then %v", first, second)
			}
			if got := s.Tenant.Requests(); got != n+1 {
				t.Errorf("counted %d requests, want %d: refused ones don't count", got, n+1)
			}
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
		var arrived, clients sync.WaitGroup // no request is answered before all have arrived
		arrived.Add(callers)
		s.IMS.Misbehave(func(honest http.Handler) http.Handler {
			arrived.Done()
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				arrived.Wait()
				honest.ServeHTTP(w, r)
			})
		})
		for range callers {
			clients.Go(func() { requestGrant(t.Context(), client, s) })
		}
		clients.Wait()
		if n, most := s.IMS.Requests(), s.IMS.MostAtOnce(); n != 10+callers || most != callers || len(s.IMS.Issued()) != n {
			t.Errorf("counted %d, %d at once, want %d and %d", n, most, 10+callers, callers)
		}
	})
}

func TestCloseEndsAllGoroutines(t *testing.T) {
	s := StartForTest(t)
	client := overSockets(t, s)
	s.Tenant.Misbehave(Hang())
	s.IMS.Misbehave(Drip(time.Hour))
	var clients sync.WaitGroup
	for range 5 {
		clients.Go(func() {
			keys, grant := fetchKeys(t.Context(), client, s), requestGrant(t.Context(), client, s)
			if keys.err == nil || grant.err == nil {
				t.Errorf("got %+v and %+v from closed servers", keys, grant)
			}
		})
	}
	idle, err := net.Dial("tcp", s.IMS.host()) // sends no request
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	await(t, "5 requests", func() bool { return s.Tenant.Requests() == 5 })
	s.Close()
	s.Close()
	clients.Wait()
	running := regexp.MustCompile(`net/http\.\(\*(conn|connReader|Server)\)\.|standin\.\(\*Server\)`)
	await(t, "the goroutines' end", func() bool {
		stacks := make([]byte, 1<<20)
		return !running.Match(stacks[:runtime.Stack(stacks, true)])
	})
}

func TestTransportOfOtherHosts(t *testing.T) {
	s := ForTest(t)
	var unknown *net.DNSError
	if _, err := inProcess(s).Get("https://ims.bentley.com/"); !errors.As(err, &unknown) || !unknown.IsNotFound {
		t.Errorf("another host: %v, want no such host", err)
	}
	if _, err := inProcess(s).Get("http://ims.bentley.test/"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("plain http: %v, want %v", err, syscall.ECONNREFUSED)
	}
}

// A Standin and its Transport that were used in a bubble work in the next, and outside.
func TestBubblesShareAStandin(t *testing.T) {
	s := ForTest(t)
	client := inProcess(s)
	for range 2 {
		synctest.Test(t, func(t *testing.T) {
			s.IMS.Misbehave(Delay(time.Hour))
			s.Tenant.Stop()
			if err := s.Tenant.Restart(); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			wantHonest(t, s, client)
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
	wantHonest(t, s, client)
}
