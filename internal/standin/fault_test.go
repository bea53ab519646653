package standin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestFaultsThatAnswer(t *testing.T) {
	const text = "text/plain; charset=utf-8"
	nested := func(honest http.Handler) http.Handler {
		return Delay(time.Millisecond)(Status(502)(honest))
	}
	tests := []struct {
		name   string
		fault  Fault
		status int
		header string // name: value
		body   string // a prefix
	}{
		{"status", Status(503), 503, "Content-Type: " + text, "Service Unavailable " + Canary},
		{"answer", Answer(418, "text/x", "tea"), 418, "Content-Type: text/x", "tea"},
		{"answer without a type", Answer(200, "", "<html>"), 200, "Content-Type: ", "<html>"},
		{"nested", nested, 502, "Content-Type: " + text, "Bad Gateway"},
		{"throttle", Throttle("12"), 429, "Retry-After: 12", "Too Many Requests"},
		{"throttle with nonsense", Throttle("soon, maybe"), 429, "Retry-After: soon, maybe", "Too Many Requests"},
		{"a header", WithHeader("X-Test", "1", Answer(200, "", "x")), 200, "X-Test: 1", "x"},
		{"redirect", Redirect(elsewhere), 307, "Location: " + elsewhere, "Temporary Redirect"},
	}
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		for _, test := range tests {
			s.Tenant.Misbehave(test.fault)
			s.IMS.Misbehave(test.fault)
			name, value, _ := strings.Cut(test.header, ": ")
			for _, got := range []answer{fetchKeys(t.Context(), client, s), requestGrant(t.Context(), client, s)} {
				if got.err != nil || got.status != test.status || !strings.HasPrefix(got.body, test.body) || got.header.Get(name) != value {
					t.Errorf("%s: got %+v, want %d %s %q", test.name, got, test.status, test.header, test.body)
				}
			}
		}
		if n := len(s.IMS.Issued()); n != 0 {
			t.Errorf("%d tokens were issued, want none", n)
		}
		s.Tenant.Behave()
		s.IMS.Behave()
		wantHonest(t, s, client)
	})
}

func TestAClientThatFollowsARedirectGetsAGoodAnswer(t *testing.T) {
	s := ForTest(t)
	s.IMS.Misbehave(Redirect(elsewhere))
	s.Tenant.Misbehave(Redirect(elsewhere))
	wantHonest(t, s, &http.Client{Transport: s.Transport()})
}

func TestDelay(t *testing.T) {
	const delay = 30 * time.Millisecond
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		s.Tenant.Misbehave(Delay(delay))
		start := time.Now()
		got := fetchKeys(t.Context(), client, s)
		if took := time.Since(start); took < delay || got.body != string(s.Tenant.JWKS()) {
			t.Errorf("got %+v after %v, want the JWKS after %v", got, took, delay)
		}
	})
}

func TestDripSendsOneByteAtATime(t *testing.T) {
	s := ForTest(t)
	synctest.Test(t, func(t *testing.T) {
		s.Tenant.Misbehave(Drip(time.Second))
		resp, err := inProcess(s).Get(s.Tenant.Issuer() + ".well-known/jwks.json")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		start := time.Now()
		if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		// The first byte is there when the header is; each further one takes 1 s.
		if took := time.Since(start); took != 9*time.Second {
			t.Errorf("10 bytes took %v, want 9s", took)
		}
		s.IMS.Misbehave(Drip(time.Second))
		if got := requestGrant(t.Context(), inProcess(s), s); !s.IMS.Valid(got.token()) {
			t.Errorf("got %+v, want a valid token", got)
		}
	})
}

func TestHang(t *testing.T) {
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		s.Tenant.Misbehave(Hang())
		s.IMS.Misbehave(Hang())
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		if got := requestGrant(ctx, client, s); !errors.Is(got.err, context.DeadlineExceeded) {
			t.Errorf("grant: got %+v, want %v", got, context.DeadlineExceeded)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(30*time.Millisecond, cancel)
		if got := fetchKeys(ctx, client, s); !errors.Is(got.err, context.Canceled) {
			t.Errorf("keys: got %+v, want %v", got, context.Canceled)
		}
	})
}

func TestHangEndsWhenTheClientClosesTheConnection(t *testing.T) {
	s := StartForTest(t)
	s.Tenant.Misbehave(Hang())
	s.IMS.Misbehave(Hang())
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	clients.Go(func() { fetchKeys(ctx, overSockets(t, s), s) })
	clients.Go(func() { requestGrant(ctx, overSockets(t, s), s) })
	for s.Tenant.Requests()+s.IMS.Requests() < 2 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	clients.Wait()
	wantEnded(t, "standin.Hang", "standin.(*Server).endpoint")
}

func TestHangUp(t *testing.T) {
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		s.Tenant.Misbehave(HangUp())
		s.IMS.Misbehave(HangUp())
		for _, got := range []answer{fetchKeys(t.Context(), client, s), requestGrant(t.Context(), client, s)} {
			if !errors.Is(got.err, io.EOF) {
				t.Errorf("got %+v, want %v", got, io.EOF)
			}
		}
		if keys, grants := s.Tenant.Requests(), s.IMS.Requests(); keys != 1 || grants != 1 {
			t.Errorf("counted %d and %d requests, want one each: no client repeats a request by itself", keys, grants)
		}
	})
}

func TestTruncated(t *testing.T) {
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		s.Tenant.Misbehave(Truncated())
		got := fetchKeys(t.Context(), client, s)
		whole := string(s.Tenant.JWKS())
		if got.status != 200 || !errors.Is(got.err, io.ErrUnexpectedEOF) || got.body != whole[:len(whole)/2] {
			t.Errorf("got %+v, want half of the answer and %v", got, io.ErrUnexpectedEOF)
		}
	})
}

func TestHugeIsAGoodAnswerIfReadWhole(t *testing.T) {
	const size = 3<<20 + 1
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		s.IMS.Misbehave(Huge(size))
		if got := requestGrant(t.Context(), client, s); len(got.body) <= size || !s.IMS.Valid(got.token()) {
			t.Errorf("got %d bytes and %v, want more than %d with a token", len(got.body), got.err, size)
		}
		resp, err := client.PostForm(s.IMS.URL()+"/connect/token", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close() // not read: the handler must end, or the bubble would not
	})
}

func TestNonsense(t *testing.T) {
	s := ForTest(t)
	if n := len(Nonsense()); n != 14 {
		t.Errorf("%d kinds of nonsense, want 14", n)
	}
	for _, nonsense := range Nonsense() {
		s.Tenant.Misbehave(nonsense.Fault)
		s.IMS.Misbehave(nonsense.Fault)
		keys, grant := fetchKeys(t.Context(), inProcess(s), s), requestGrant(t.Context(), inProcess(s), s)
		if nonsense.Name == "32 MiB" {
			if len(keys.body) <= 32<<20 || len(grant.body) <= 32<<20 {
				t.Errorf("%s: got %d and %d bytes", nonsense.Name, len(keys.body), len(grant.body))
			}
			continue
		}
		if grant.token() != "" || keys.err == nil && keys.status == 200 && parses(keys.body) {
			t.Errorf("%s: got %+v and %+v, want nothing usable", nonsense.Name, keys, grant)
		}
	}
}
