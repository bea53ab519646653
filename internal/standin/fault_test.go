package standin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestFaultsThatAnswer(t *testing.T) {
	nested := func(honest http.Handler) http.Handler {
		return Delay(time.Millisecond)(Status(502)(honest))
	}
	tests := []struct {
		name        string
		fault       Fault
		status      int
		contentType string
		body        string // a prefix
	}{
		{"status", Status(503), 503, "text/plain; charset=utf-8", "Service Unavailable " + Canary},
		{"no such status", Status(42), 500, "text/plain; charset=utf-8", " " + Canary},
		{"no final status", Status(103), 500, "text/plain; charset=utf-8", "Early Hints"},
		{"answer", Answer(418, "text/x", "tea"), 418, "text/x", "tea"},
		{"answer without a type", Answer(200, "", "<html>"), 200, "", "<html>"},
		{"nested", nested, 502, "text/plain; charset=utf-8", "Bad Gateway"},
	}
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		for _, test := range tests {
			s.Tenant.Misbehave(test.fault)
			s.IMS.Misbehave(test.fault)
			for _, got := range []seen{
				fetchKeys(t.Context(), client, s),
				askGrant(t.Context(), client, s),
			} {
				if got.err != nil || got.status != test.status || !strings.HasPrefix(got.body, test.body) ||
					got.header.Get("Content-Type") != test.contentType {
					t.Errorf("%s: got %+v, want %d %s %q", test.name, got, test.status, test.contentType, test.body)
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

// wantHonest fails unless both serve well.
func wantHonest(t *testing.T, s *Standin, client *http.Client) {
	t.Helper()
	got := fetchKeys(t.Context(), client, s)
	if got.err != nil || got.status != 200 || got.body != string(s.Tenant.JWKS()) {
		t.Errorf("keys: got %+v, want the JWKS", got)
	}
	got = askGrant(t.Context(), client, s)
	if token, err := accessToken(got); err != nil || !s.IMS.Valid(token) {
		t.Errorf("grant: got %+v, want a valid token", got)
	}
}

func TestRedirectKeepsMethodAndBody(t *testing.T) {
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		s.IMS.Misbehave(Redirect(elsewhere))
		got := askGrant(t.Context(), client, s)
		if got.err != nil || got.status != 307 || got.header.Get("Location") != elsewhere {
			t.Errorf("got %+v, want a redirect passed back", got)
		}
		client.CheckRedirect = nil // follow
		got = askGrant(t.Context(), client, s)
		if token, err := accessToken(got); err != nil || !s.IMS.Valid(token) {
			t.Errorf("followed: got %+v, want a token for the imprudent", got)
		}
		s.Tenant.Misbehave(Redirect(elsewhere))
		if got = fetchKeys(t.Context(), client, s); got.body != string(s.Tenant.JWKS()) {
			t.Errorf("followed: got %+v, want the keys", got)
		}
	})
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

func TestDripIsOneByteAtATime(t *testing.T) {
	const interval = 100 * time.Microsecond
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		s.IMS.Misbehave(Drip(interval))
		start := time.Now()
		got := askGrant(t.Context(), client, s)
		if token, err := accessToken(got); err != nil || !s.IMS.Valid(token) {
			t.Fatalf("got %+v, want a valid token", got)
		}
		want := time.Duration(len(got.body)-1) * interval
		if took := time.Since(start); took < want {
			t.Errorf("%d bytes took %v, want %v at least", len(got.body), took, want)
		}
	})
	t.Run("in virtual time", func(t *testing.T) {
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
		})
	})
}

func TestHang(t *testing.T) {
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		s.Tenant.Misbehave(Hang())
		s.IMS.Misbehave(Hang())
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		if got := askGrant(ctx, client, s); !errors.Is(got.err, context.DeadlineExceeded) {
			t.Errorf("grant: got %+v, want %v", got, context.DeadlineExceeded)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(30*time.Millisecond, cancel)
		if got := fetchKeys(ctx, client, s); !errors.Is(got.err, context.Canceled) {
			t.Errorf("keys: got %+v, want %v", got, context.Canceled)
		}
		client.Timeout = 30 * time.Millisecond
		var timeout interface{ Timeout() bool }
		if got := fetchKeys(t.Context(), client, s); !errors.As(got.err, &timeout) || !timeout.Timeout() {
			t.Errorf("keys: got %+v, want a time-out", got)
		}
	})
}

func TestHangEndsWhenTheClientLeaves(t *testing.T) {
	s := StartForTest(t)
	s.Tenant.Misbehave(Hang())
	s.IMS.Misbehave(Hang())
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	clients.Go(func() { fetchKeys(ctx, overSockets(t, s), s) })
	clients.Go(func() { askGrant(ctx, overSockets(t, s), s) })
	for s.Tenant.Requests()+s.IMS.Requests() < 2 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	clients.Wait()
	eventuallyGone(t, "standin.Hang", "standin.(*Server).endpoint")
}

func TestHangUp(t *testing.T) {
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		s.Tenant.Misbehave(HangUp())
		s.IMS.Misbehave(HangUp())
		for _, got := range []seen{fetchKeys(t.Context(), client, s), askGrant(t.Context(), client, s)} {
			if !errors.Is(got.err, io.EOF) && !errors.Is(got.err, io.ErrUnexpectedEOF) {
				t.Errorf("got %+v, want an early end", got)
			}
		}
		if keys, grants := s.Tenant.Requests(), s.IMS.Requests(); keys != 1 || grants != 1 {
			t.Errorf("counted %d and %d requests, want one each: no client repeats its own", keys, grants)
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

func TestHugeIsGoodForThoseWhoReadItAll(t *testing.T) {
	const size = 3<<20 + 1
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		s.IMS.Misbehave(Huge(size))
		got := askGrant(t.Context(), client, s)
		if token, err := accessToken(got); len(got.body) <= size || err != nil || !s.IMS.Valid(token) {
			t.Errorf("got %d bytes and %v, want more than %d with a token", len(got.body), err, size)
		}
		resp, err := client.PostForm(s.IMS.URL()+"/connect/token", url.Values{})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close() // unread: the handler ends all the same, or the bubble would not
	})
}

func TestNonsense(t *testing.T) {
	s := ForTest(t)
	names := map[string]bool{}
	for _, nonsense := range Nonsense() {
		t.Run(nonsense.Name, func(t *testing.T) {
			names[nonsense.Name] = true
			s.Tenant.Misbehave(nonsense.Fault)
			s.IMS.Misbehave(nonsense.Fault)
			synctest.Test(t, func(t *testing.T) {
				for _, ask := range []func(context.Context, *http.Client, *Standin) seen{fetchKeys, askGrant} {
					got := ask(t.Context(), inProcess(s), s)
					if len(got.body) > 32<<20 {
						return // large enough, and slow enough to read once
					}
					if got.err == nil && got.status == 200 && useful(got.body) {
						t.Errorf("got %+v, want nothing useful", got)
					}
				}
			})
		})
	}
	if len(names) != 14 {
		t.Errorf("%d kinds of nonsense, want 14", len(names))
	}
}
