package standintest

import (
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestNamesAndCertificate(t *testing.T) {
	s := New(t)
	names := func() string { return s.Tenant.Domain() + " " + s.Tenant.Issuer() + " " + s.IMS.URL() }
	if got := names(); got != "tenant.auth0.test https://tenant.auth0.test/ https://ims.bentley.test" {
		t.Errorf("before Start: %s", got)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	if got := names(); !regexp.MustCompile(`^(127\.0\.0\.1:\d+) https://(127\.0\.0\.1:\d+)/ https://127\.0\.0\.1:\d+$`).MatchString(got) {
		t.Errorf("after Start: %s", got)
	}
	wantHonest(t, s, inProcess(s)) // by the new names
	wantHonest(t, s, overSockets(t, s))
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.CACert()) || !pool.Equal(s.Pool()) {
		t.Error("CACert and Pool differ")
	}
}

func TestStopAndRestart(t *testing.T) {
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		for n := range 2 {
			wantHonest(t, s, client)
			domain := s.Tenant.Domain()
			s.Tenant.Stop()
			s.Tenant.Stop()
			var op *net.OpError
			if got := fetchKeys(t.Context(), client, s); !errors.Is(got.err, syscall.ECONNREFUSED) || !errors.As(got.err, &op) {
				t.Errorf("stopped: got %+v, want %v in a %T", got, syscall.ECONNREFUSED, op)
			}
			if got := requestGrant(t.Context(), client, s); !s.IMS.Valid(got.token()) {
				t.Errorf("the IMS stopped with the tenant: %+v", got)
			}
			if first, second := s.Tenant.Restart(), s.Tenant.Restart(); first != nil || second != nil || s.Tenant.Domain() != domain {
				t.Fatalf("Restart = %v, then %v, on %s; want no error, on %s", first, second, s.Tenant.Domain(), domain)
			}
			if got := s.Tenant.Requests(); got != n+1 {
				t.Errorf("counted %d requests, want %d: refused ones don't count", got, n+1)
			}
		}
	})
}

func TestStopClosesOpenConnections(t *testing.T) {
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		arrived, done := make(chan struct{}), make(chan answer, 1)
		s.IMS.Misbehave(func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
			close(arrived)
			Hang()(w, r, honest)
		})
		go func() { done <- requestGrant(t.Context(), client, s) }()
		<-arrived
		s.IMS.Stop()
		if got := <-done; !errors.Is(got.err, io.EOF) {
			t.Errorf("got %+v, want %v", got, io.EOF)
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
		s.IMS.Misbehave(func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
			arrived.Done()
			arrived.Wait()
			honest.ServeHTTP(w, r)
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

func TestCloseWaitsForRequests(t *testing.T) {
	s := Start(t)
	var ended atomic.Bool
	s.IMS.Misbehave(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		<-r.Context().Done()
		time.Sleep(50 * time.Millisecond)
		ended.Store(true)
	})
	client := overSockets(t, s)
	go requestGrant(t.Context(), client, s)
	for s.IMS.Requests() == 0 {
		time.Sleep(time.Millisecond)
	}
	s.Close()
	if s.Close(); !ended.Load() {
		t.Error("Close returned before the request's end")
	}
}

func TestTransportOfOtherHosts(t *testing.T) {
	s := New(t)
	var unknown *net.DNSError
	if _, err := inProcess(s).Get("https://ims.bentley.com/"); !errors.As(err, &unknown) || !unknown.IsNotFound {
		t.Errorf("another host: %v, want no such host", err)
	}
	if _, err := inProcess(s).Get("http://ims.bentley.test/"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("plain http: %v, want %v", err, syscall.ECONNREFUSED)
	}
}

// A Standin and its Transport that were used in a bubble work in the next, and outside.
// Time is the bubble's.
func TestBubblesShareAStandin(t *testing.T) {
	s := New(t)
	client := inProcess(s)
	for range 2 {
		synctest.Test(t, func(t *testing.T) {
			s.IMS.Misbehave(Delay(time.Hour))
			start := time.Now()
			wantHonest(t, s, client)
			if took := time.Since(start); took != time.Hour {
				t.Errorf("took %v, want 1h", took)
			}
			s.IMS.Misbehave(Drip(time.Second))
			start = time.Now()
			got := requestGrant(t.Context(), client, s)
			if took := time.Since(start); !s.IMS.Valid(got.token()) || took != time.Duration(len(got.body)-1)*time.Second {
				t.Errorf("a byte a second: got %d bytes after %v", len(got.body), took)
			}
			s.IMS.Misbehave(Huge(1 << 20))
			resp, err := client.Do(grantRequest(s, ""))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close() // unread: the handler must end, or the bubble would not
		})
	}
	s.IMS.Behave()
	wantHonest(t, s, client)
}
