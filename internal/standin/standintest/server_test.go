package standintest

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestStopAndRestart(t *testing.T) {
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		for n := range 2 {
			wantHonest(t, s, client)
			domain := s.Tenant.Domain()
			s.Tenant.Stop()
			s.Tenant.Stop()
			got := fetchKeys(t.Context(), client, s)
			if !errors.Is(got.err, syscall.ECONNREFUSED) || !errors.As(got.err, new(*net.OpError)) {
				t.Errorf("stopped: got %+v, want %v", got, syscall.ECONNREFUSED)
			}
			if got := requestGrant(t.Context(), client, s); !s.IMS.Valid(got.token()) {
				t.Errorf("the IMS stopped with the tenant: %+v", got)
			}
			for range 2 {
				if err := s.Tenant.Restart(); err != nil || s.Tenant.Domain() != domain {
					t.Fatalf("Restart = %v, on %s; want nil, on %s", err, s.Tenant.Domain(), domain)
				}
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

func TestCounts(t *testing.T) {
	const callers = 20
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		requestGrant(t.Context(), client, s)
		if most := s.IMS.MostAtOnce(); most != 1 {
			t.Errorf("%d at once, want 1", most)
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
		if n, most := s.IMS.Requests(), s.IMS.MostAtOnce(); n != 1+callers || most != callers {
			t.Errorf("counted %d, %d at once, want %d and %d", n, most, 1+callers, callers)
		}
	})
}

func TestTransportOfOtherHosts(t *testing.T) {
	s := New(t)
	_, err := inProcess(s).Get("https://ims.bentley.com/")
	if unknown, ok := errors.AsType[*net.DNSError](err); !ok || !unknown.IsNotFound {
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
			s.IMS.Misbehave(Drip(time.Second))
			start := time.Now()
			got := requestGrant(t.Context(), client, s)
			took, want := time.Since(start), time.Duration(len(got.body)-1)*time.Second
			if !s.IMS.Valid(got.token()) || took != want {
				t.Errorf("a byte a second: got %d bytes after %v", len(got.body), took)
			}
			s.IMS.Misbehave(Huge(1 << 20))
			resp := must(client.Do(grantRequest(s, "")))
			resp.Body.Close() // unread: the handler must end, or the bubble would not
		})
	}
	s.IMS.Behave()
	wantHonest(t, s, client)
}
